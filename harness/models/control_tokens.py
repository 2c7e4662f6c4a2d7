"""Control tokens of chat formats, kept from being taken for ones."""

from __future__ import annotations

import re

SPACE = "\u200b"  # zero width: what it breaks up still looks the same to a reader
_ANGLED = (
    "s|bos|eos|pad|unk|mask|cls|sep|sop|eop|eod|eot|eom|eoh|eoa|eosys|bot|think|thinking|tool_calls?|tool_response|tools"
    "|start_of_turn|end_of_turn|start_of_image|end_of_image|image_soft_token|start_of_role|end_of_role|image|video|audio"
    "|img|ref|box|quad|beginning_of_sentence|end_of_sentence|end_of_text|end_of_document|turn|channel"
    "|(?:bos|eos|pad|unk|cls|sep|mask|eop)_token|fim_(?:prefix|middle|suffix|pad)|file_sep|repo_?name|filename|gh_stars"
    r"|(?:issue|commit|jupyter)_\w+|empty_output|unused_?\d+|reserved_\d+|special_\d+|extra_id_\d+|tokens_unused_\d+"
    r"|ctrl\d+|mask:\d+|seed:[\w:]+|0x[0-9a-f]{2}"
)
_SQUARE = (
    "inst|system_prompt|system_message|tool_calls|available_tools|tool_results|tool_content|call_id|args|think|img"
    "|img_break|img_end|audio|begin_audio|prefix|middle|suffix|model_settings|gmask|smask|mask|cls|sep|pad|unk|bos|eos|eot"
    "|start_header_id|end_header_id"
)
# Each match is one character, and what makes it a control token is looked ahead at: tokens may overlap. Falcon's
# >>TITLE<<, MiniMax's ]~b] and EXAONE's [|user|] have shapes of their own. HTML has <pre>, CodeLlama <PRE>.
_CONTROL = re.compile(
    r"<(?=[|｜][^\n]{0,128}?[|｜]>)|<(?=[|｜][\w\"▁]{1,48}>)|<(?=[\w\"▁]{1,48}[|｜]>)"
    rf"|(?i:<(?=/?(?:{_ANGLED})>)|\[(?=/?(?:{_SQUARE})\])|<(?=</?sys>>))"
    r"|<(?=(?:PRE|SUF|MID|EOT)>)|<(?=\[[^\]\n]{1,48}\]>)|\[(?=\|[\w/]{1,48}\|\])"
    r"|>(?=>[A-Z]{3,32}<<)|\](?=~!?b[\]\[])|\[(?=e~\[)"
)
_STARTS = re.compile(r"[<>\[\]]")


def without_control_tokens(text: str) -> str:
    """The text with every control token of common chat formats broken up, to look the same and stay text.

    For servers that tokenise a message's text with control tokens on. Broken up is what has the shape of a control
    token, whichever model's; other markup (`<div>`) and code (`a < b`) stays as it is. A second time changes nothing.
    """
    if not _STARTS.search(text):  # as most texts are: ten times as fast
        return text
    return _CONTROL.sub(lambda found: found[0] + SPACE, text)
