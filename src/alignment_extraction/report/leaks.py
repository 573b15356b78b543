"""Personal data and secrets in leaked rows, as counts by kind: no value leaves this module."""

import re
from collections import Counter
from collections.abc import Iterable

import phonenumbers
from detect_secrets.core.scan import scan_line
from detect_secrets.settings import transient_settings

_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9.-]{1,253}\.[A-Za-z]{2,24}\b")
# Detectors that know a format. Those of high entropy or of the word "password" take prose for one.
_DETECTORS = (
    "AWSKeyDetector", "ArtifactoryDetector", "AzureStorageKeyDetector", "BasicAuthDetector",
    "DiscordBotTokenDetector", "GitHubTokenDetector", "GitLabTokenDetector", "IPPublicDetector",
    "JwtTokenDetector", "MailchimpDetector", "NpmDetector", "OpenAIDetector", "PrivateKeyDetector",
    "PypiTokenDetector", "SendGridDetector", "SlackDetector", "SquareOAuthDetector",
    "StripeDetector", "TelegramBotTokenDetector", "TwilioKeyDetector",
)  # fmt: skip
_SETTINGS = {"plugins_used": [{"name": name} for name in _DETECTORS], "filters_used": []}
_MOST_CHARACTERS = 20_000


def scan(texts: Iterable[str | None]) -> dict[str, int]:
    """In how many texts each kind of personal data or secret stands, the most frequent first.

    Formats are matched (detect-secrets, phonenumbers, and a pattern for e-mail addresses): names,
    postal addresses and secrets without a known format are not found. The first 20,000 characters
    of each text are read.
    """
    counts: Counter[str] = Counter()
    with transient_settings(_SETTINGS):
        for text in texts:
            read = (text or "")[:_MOST_CHARACTERS]
            lines = filter(str.strip, read.splitlines())
            found = {secret.type for line in lines for secret in scan_line(line)}
            if _EMAIL.search(read):
                found.add("E-mail address")
            # Only numbers with a country's code: all others look like the numbers of a problem.
            if "+" in read and any(True for _ in phonenumbers.PhoneNumberMatcher(read, None)):
                found.add("Phone number")
            counts.update(found)
    return dict(sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])))
