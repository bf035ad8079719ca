"""What `pipeline.report` puts together: figures, pictures, tables and the page that holds them."""
