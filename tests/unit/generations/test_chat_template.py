"""Templates from strangers: rendered right, or refused in bounded time and memory."""

import time

import pytest
from transformers.utils.chat_template_utils import render_jinja_template

from alignment_extraction.generations.chat_template import TemplateError, render_each

HELLO = [{"role": "user", "content": "Hello <b>"}]


def render(template, conversations, **names):
    """The texts; the first error is raised."""
    results = render_each(template, conversations, **names)
    for result in results:
        if isinstance(result, TemplateError):
            raise result
    return results


def test_renders_each_conversation() -> None:
    template = "{{ bos_token }}{% for m in messages %}[{{ m.role }}|{{ m['content'] }}]{% endfor %}"
    assert render(template, [HELLO, HELLO * 2], bos="<s>") == [
        "<s>[user|Hello <b>]",
        "<s>[user|Hello <b>][user|Hello <b>]",
    ]


def test_white_space_and_loop_controls_as_transformers_has_them() -> None:
    template = (
        "{% for m in messages %}\n    {% if loop.index > 1 %}\n{% break %}{% endif %}\n"
        "{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    )
    assert render(template, [HELLO * 3], eos="</s>") == ["Hello <b></s>\n"]


def test_the_date_is_always_the_same() -> None:
    assert render("{{ strftime_now('%d %b %Y') }}", [HELLO]) == ["26 Jul 2024"]


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages | tojson }}",
        "{{ messages | tojson(indent=2, sort_keys=true, separators=(', ', '=')) }}",
        "{{ messages | tojson(ensure_ascii=true) }}",
        "{{ messages | tojson(false, 2) }}",
        "{% generation %}{{ messages[0].content }}{% set x = 1 %}{% endgeneration %}{{ x }}",
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
        "{{ tools is none }}{{ documents is none }}{{ functions is defined }}",
    ],
)
def test_as_transformers_renders(template: str) -> None:
    messages = [{"role": "user", "content": "Zoë <b>&'"}]
    expected, _ = render_jinja_template([messages], chat_template=template)
    assert render(template, [messages]) == expected


def test_an_error_of_one_conversation_is_its_own() -> None:
    template = "{% if messages | length > 1 %}{{ raise_exception('one') }}{% endif %}ok"
    one, two = render_each(template, [HELLO, HELLO * 2])
    assert one == "ok"
    assert isinstance(two, TemplateError)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('roles must alternate') }}", "roles must alternate"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ messages[9].content.upper() }}", "UndefinedError"),
        ("{{ 1 // 0 }}", "ZeroDivisionError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError|UndefinedError"),
        ("{{ cycler.__init__.__globals__.os.system('true') }}", "SecurityError|UndefinedError"),
        ("{{ '{0.__class__.__init__.__globals__}'.format(cycler) }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{% import 'os' as os %}", "no loader"),
        ("{{ range(1000000000) | list }}", "Range too big|OverflowError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
    ],
)
def test_errors_and_escapes_are_refused(template, message) -> None:
    with pytest.raises(TemplateError, match=message):
        render(template, [HELLO])


@pytest.mark.parametrize(
    "template",
    [
        "{{ 'a' * 10000000000 }}",
        "{{ 'a' * 100000000 }}",
        "{{ 'a' | center(100000000000) }}",
        "{{ 9 ** (9 ** 9) }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% set ns = namespace(s='a') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}"
        "{% endfor %}{{ ns.s }}",
    ],
)
def test_unbounded_work_is_refused_soon(template) -> None:
    started = time.process_time()
    with pytest.raises(TemplateError, match=r"more than|MemoryError|OverflowError"):
        render(template, [HELLO])
    assert time.process_time() - started < 1  # the limit is the child's, this process only waits
