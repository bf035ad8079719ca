"""Credentials are taken out of what is said; all else stays as it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.redaction import HIDDEN, redacted

HUSH = "wJalrXUtnFEMIK7MDENGbPxRfiCY"


@pytest.mark.parametrize(
    "text",
    [
        f"http://user:{HUSH}@host:8080/a.tif cannot be read",
        f"https://{HUSH}@host/a.tif",
        f"postgresql+asyncpg://prefect:{HUSH}@db:5432/prefect",
        f"https://b.s3.amazonaws.com/a.tif?X-Amz-Credential={HUSH}%2F2026&X-Amz-Date=20260101T000000Z&X-Amz-Signature=x",
        f"https://b.s3.amazonaws.com/a.tif?X-Amz-Date=20260101T000000Z&X-Amz-Signature={HUSH}",
        f"https://a.blob.core.windows.net/c/a.tif?sv=2024&sig={HUSH}%3D&se=2026",
        f"https://storage.googleapis.com/b/a?GoogleAccessId=x&Signature={HUSH}",
        f"/vsicurl/https://host/a.tif?api_key={HUSH}",
        f"Authorization: Bearer {HUSH}",
        f"{{'Authorization': 'Basic {HUSH}='}}",
        f"aws_secret_access_key = {HUSH}",
        f"AWS_SECRET_ACCESS_KEY={HUSH} t2s segment",
        f'{{"password": "{HUSH}", "user": "x"}}',
        f"{{'secret': '{HUSH}', 'key': 'a'}}",
        f"client_secret: {HUSH}",
        f"PREFECT_API_KEY=pnu_{HUSH}",
        f"a key sk-{HUSH} was refused",
        f"hf_{HUSH}",
        f"-----BEGIN PRIVATE KEY-----\n{HUSH}\n-----END PRIVATE KEY-----",
    ],
)  # fmt: skip
def test_credentials_are_hidden(text: str) -> None:
    said = redacted(text)
    assert HUSH not in said
    assert HIDDEN in said
    assert redacted(said) == said


def test_an_access_key_s_id_is_hidden_by_its_looks() -> None:
    assert redacted("The AWS Access Key Id AKIAIOSFODNN7EXAMPLE does not exist") == (
        f"The AWS Access Key Id {HIDDEN} does not exist"
    )


def test_what_names_the_place_stays() -> None:
    said = redacted(f"https://user:{HUSH}@host:8080/folder/a.tif?X-Amz-Date=20260101&X-Amz-Signature={HUSH}&x=1: 403")
    assert said == f"https://{HIDDEN}@host:8080/folder/a.tif?X-Amz-Date=20260101&X-Amz-Signature={HIDDEN}&x=1: 403"


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/key/a.tif: 403 Forbidden; check the address and the credentials",
        "where is the password written on the wall?",
        "tokens: a reply of 12 tokens was cut",
        "no_target: 3, ok: 7",
        "the scheduler at tcp://10.0.0.1:8786 is gone",
        "https://host/a.tif?version=3&asset=red",
        "mail@host.org wrote at 12:30",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redacted(text) == text


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="*"), min_size=6, max_size=40),
    st.text(max_size=40),
    st.text(max_size=40),
)
def test_a_known_secret_never_comes_through(secret: str, before: str, after: str) -> None:
    assert secret not in redacted(before + secret + after, [secret])


def test_a_short_secret_is_not_looked_for_everywhere() -> None:
    assert redacted("a tile of 512 px", ["512"]) == "a tile of 512 px"
