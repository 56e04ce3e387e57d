#!/usr/bin/env python3
"""Records what transformers' apply_chat_template makes of chat templates, for tests/text/{jinja,chat_template}_test.cpp.

    python tools/make_templates.py [--templates DIR] [--tokenizers DIR]

Writes tests/fixtures/text/template_micro.json.gz (expressions and white space, one line each; see template_micro.txt),
template_own.json.gz (the template_*.jinja beside it) and, where the folders are given, template_outside.json.gz: outputs
for templates of other projects (TRL's `chat_templates`, the `tokenizer_config.json` of real tokenizers), which are not
part of this project; tests find those by RLHF_TEMPLATES and RLHF_DATA and compare hashes first.
Made with transformers 5.23.0, jinja2 3.1.6, TRL 1.16.0. There is no randomness; the clock is fixed.
"""
import argparse
import datetime
import glob
import gzip
import json
import os

import xxhash
from transformers.utils import chat_template_utils as utils

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "fixtures", "text")
SPECIALS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 6, 15, 4, 5)


utils.datetime = FixedClock

WEATHER = {"type": "function", "function": {
    "name": "get_weather", "description": "The weather \"now\" in <a> city & more", "parameters": {
        "type": "object", "properties": {
            "city": {"type": "string", "description": "Name, such as Zürich"},
            "days": {"type": "integer", "enum": [1, 3, 7]},
            "unit": {"type": ["string", "null"], "default": None}},
        "required": ["city"]}, "return": {"type": "string"}}}
ADD = {"type": "function", "function": {
    "name": "add", "description": "Adds.", "parameters": {
        "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}, "required": ["a", "b"]}}}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


def call(name, arguments, number=0):
    return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


def tool(text, name="get_weather", number=0):
    return {"role": "tool", "name": name, "tool_call_id": f"call_{number}", "content": text}


SINGLE = [user("Hi there")]
PAIR = [user("What is 2+2?"), assistant("It is 4.")]
MULTI = [user("One"), assistant("Two"), user("Three"), assistant("Four")]
SYSTEM = [system("Be brief."), user("One"), assistant("Two"), user("Three"), assistant("Four")]
UNICODE = [system("  Réponds 你好 \n"), user(" 😀 naïve “quotes” <b>&amp;</b> "), assistant("\n مرحبا ßẞ \n")]
REASONED = [user("Q1"), assistant("A1", reasoning_content="first thoughts\n"), user("Q2"),
            assistant("\nA2", reasoning_content="\nsecond thoughts")]
INLINE = [user("Q1"), assistant("<think>\nold\n</think>\n\nA1"), user("Q2"), assistant("<think>\nnew\n</think>\n\nA2")]
TOOLS = [system("Use tools."), user("Weather in Zürich?"),
         assistant("", tool_calls=[call("get_weather", {"city": "Zürich", "days": 3})]),
         tool("sunny, 20°"), assistant("It is sunny.")]
TWO_CALLS = [user("Weather and sum?"), assistant("Let me see.", tool_calls=[
    call("get_weather", {"city": "Bern", "unit": None}, 0), call("add", {"a": 1.5, "b": -2e20}, 1)]),
    tool("rain", number=0), tool("3", "add", 1), assistant("Rain; 3."), user("Thanks"), assistant("Welcome.")]
NONE_CONTENT = [user("Weather?"), {"role": "assistant", "content": None,
                                   "tool_calls": [call("get_weather", {"city": "Rom", "ok": True, "l": [1, "x"]})]},
                tool("hot"), assistant("Hot.")]
STRING_ARGS = [user("Weather?"), assistant("", tool_calls=[call("get_weather", '{"city": "Rom"}')]), tool("hot"),
               assistant("Hot.")]
PARTS = [{"role": "user", "content": [{"type": "text", "text": " Look "}, {"type": "text", "text": "here"}]},
         {"role": "assistant", "content": [{"type": "text", "text": "Seen. "}]}]
TWICE = [user("Q"), assistant("first"), assistant("second"), user("more"), assistant("third")]
EMPTY = [user(""), assistant(""), user("x"), assistant("y")]
FIRST = [assistant("Hello, I begin."), user("Q"), assistant("A")]
ANGLE = [user("html?"), assistant("<b>bold</b>"), user("and?"), assistant("<think")]

CONVERSATIONS = {
    "single": SINGLE, "pair": PAIR, "multi": MULTI, "system": SYSTEM, "unicode": UNICODE, "reasoned": REASONED,
    "inline": INLINE, "tools": TOOLS, "two_calls": TWO_CALLS, "none_content": NONE_CONTENT,
    "string_args": STRING_ARGS, "parts": PARTS, "twice": TWICE, "empty": EMPTY, "first": FIRST, "angle": ANGLE}


def make_cases():
    cases = []
    for name, messages in CONVERSATIONS.items():
        tools = [WEATHER, ADD] if name in ("tools", "two_calls", "none_content", "string_args", "single") else None
        cases.append({"messages": name, "tools": tools})
        cases.append({"messages": name, "tools": tools, "add_generation_prompt": True})
        if name in ("pair", "reasoned", "inline", "single"):
            for value in (True, False):
                cases.append({"messages": name, "tools": None, "variables": {"enable_thinking": value}})
                cases.append({"messages": name, "tools": None, "add_generation_prompt": True,
                              "variables": {"enable_thinking": value}})
        if name in ("multi", "system", "unicode"):
            cases.append({"messages": name, "tools": tools, "continue_final_message": True})
    return cases


CASES = make_cases()


def render(template, specials, case):
    """[text, spans in bytes] or None where the template raises."""
    compiled = utils._compile_jinja_template(template)
    arguments = dict(specials, **case.get("variables", {}))
    try:
        texts, spans = utils.render_jinja_template(
            conversations=[json.loads(json.dumps(CONVERSATIONS[case["messages"]]))], tools=case.get("tools"),
            chat_template=template, add_generation_prompt=case.get("add_generation_prompt", False),
            continue_final_message=case.get("continue_final_message", False),
            return_assistant_tokens_mask="generation" in template, **arguments)
    except Exception:  # whatever is wrong, ours must refuse it too
        return None
    text = texts[0]
    del compiled
    marks = [[len(text[:begin].encode()), len(text[:end].encode())] for begin, end in spans[0]] if spans else []
    return [text, marks]


def write(name, value):
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    with open(os.path.join(HERE, name), "wb") as file:
        file.write(gzip.compress(data, 9, mtime=0))
    print(name, len(data), "bytes of JSON")


def record(template, specials):
    return {"hash": xxhash.xxh3_128_hexdigest(template.encode()), "specials": specials,
            "outputs": [render(template, specials, case) for case in CASES]}


MICRO_CONTEXT = {
    "s": "Hello, Wörld", "e": "", "n": 7, "f": 2.5, "t": True, "z": None, "l": [3, 1, 2], "w": ["b", "A", "c"],
    "d": {"b": 1, "a": [1, 2], "items": "shadow"}, "u": "a\u00a0b\tc  d", "x": "<a href='q'>\"&\"</a>",
    "rows": [{"k": "x", "v": 2, "o": {"i": [5, 6]}}, {"k": "Y", "v": 1}, {"k": "x", "v": 3}],
    "m": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "big": 12345678901, "neg": -7,
    "lines": "one\ntwo\n\nthree", "nested": {"a": {"b": [{"c": "deep"}]}}, "tree": [{"n": 1, "c": [{"n": 2, "c": []}]}]}


def micro():
    with open(os.path.join(HERE, "template_micro.txt"), encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line in file]
    out = []
    for line in lines:
        if not line or line.startswith("### "):
            continue
        template = line.replace("⏎", "\n").replace("⇥", "\t").replace("␍", "\r")
        try:
            text = utils._compile_jinja_template(template).render(**json.loads(json.dumps(MICRO_CONTEXT)))
            text.encode()
        except Exception:
            text = None
        out.append([template, text])
    print(len(out), "micro templates,", sum(text is None for _, text in out), "raise")
    return {"context": MICRO_CONTEXT, "cases": out}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates")
    parser.add_argument("--tokenizers")
    options = parser.parse_args()
    write("template_micro.json.gz", micro())
    shared = {"conversations": CONVERSATIONS, "cases": CASES}
    own = {}
    for path in sorted(glob.glob(os.path.join(HERE, "template_*.jinja"))):
        with open(path, encoding="utf-8", newline="") as file:
            own[os.path.basename(path)] = record(file.read(), SPECIALS)
    write("template_own.json.gz", dict(shared, templates=own))
    outside = {}
    if options.templates:
        for path in sorted(glob.glob(os.path.join(options.templates, "*.jinja"))):
            with open(path, encoding="utf-8", newline="") as file:
                outside[os.path.basename(path)] = record(file.read(), SPECIALS)
    if options.tokenizers:
        for path in sorted(glob.glob(os.path.join(options.tokenizers, "*", "tokenizer_config.json"))):
            with open(path, encoding="utf-8") as file:
                config = json.load(file)
            specials = {key: value if isinstance(value, str) else value["content"] for key, value in config.items()
                        if key.endswith("_token") and isinstance(value, (str, dict))}
            outside[os.path.basename(os.path.dirname(path))] = record(config["chat_template"], specials)
    if outside:
        write("template_outside.json.gz", dict(shared, templates=outside))


main()
