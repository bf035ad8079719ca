# Of a requirements.lock, all but torch and the libraries that its GPU build brings. A requirement goes on over indented lines.
/^[a-z0-9]/ { keep = $0 !~ /^(torch|torchvision|triton|nvidia-[a-z0-9-]+|cuda-[a-z0-9-]+)==/ }
keep
