"""A training row on a terminal, or as plain text: text from outside is shown as it is, and nothing else than text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from harness.core.escape import visible
from harness.run.preview import Data, Part, Piece, Preview

SPACE, LINE, TAB = "␣", "↵", "⇥"
IN_LOSS, CONTROL = "green underline", "bold"
_WRITERS = {"teacher": "the teacher's", "student": "the SFT student's"}


def preview_text(shown: Preview, prompt_set: str, index: int, command: str, marks: bool) -> Text:
    """One row. marks: «…» around each token in the loss, where colours cannot be seen."""
    text = Text()
    text.append(f"{', '.join(map(visible, shown.methods))}: {_read(shown.data)}\n", "bold")
    text.append(f"row {index} of {visible(prompt_set)}, prompt {visible(shown.prompt.id)}\n\n")
    if shown.text is None:
        for message in shown.prompt.messages:
            text.append(f"[{message.role}] {_indented(visible(message.content))}\n")
        text.append(
            "\nThe student's tokenizer is not here yet: the run below downloads it, or converts it from GGUF.\n"
        )
    else:
        text.append("The conversation, as the template renders it:\n")
        text.append(f"  {_indented(visible(shown.text).rstrip())}\n\n")
        if shown.teacher_text:
            text.append("What the teacher reads instead:\n")
            text.append(f"  {_indented(visible(shown.teacher_text).rstrip())}\n\n")
        text.append(f"Tokens; {'«…» is' if marks else 'underlined is what is'} in the loss:\n")
    for part in shown.parts:
        text.append(f"  {part.role}\n", "dim")
        text.append("    ").append_text(_tokens(part, marks)).append("\n")
    for line in _notes(shown, command):
        text.append(f"{line}\n")
    return text


def _read(data: Data) -> str:
    """What a training reads, in words."""
    said = []
    for (role, who, sample), _ in data.stored:
        whose = f"{_WRITERS[who]}{f', sample {sample}' if sample else ''}"
        part = f", or of {data.share:.0%} of the examples the policy's own" if role == data.fresh else ""
        said.append(f"{visible(role)} ({whose}{part})")
    if data.share == 1:
        said.append(f"{visible(data.fresh)} (the policy's own)")
    return f"the prompt once, then {' and '.join(said)}"


def _tokens(part: Part, marks: bool) -> Text:
    text, gap = Text(), ""
    for piece in part.pieces:
        text.append(gap)
        style = " ".join([IN_LOSS] * (piece.in_loss and not marks) + [CONTROL] * piece.control)
        said = _word(piece)
        text.append(f"«{said}»" if marks and piece.in_loss else said, style)
        gap = "\n    " if piece.text.endswith("\n") else " "
    return text


def _word(piece: Piece) -> str:
    said = visible(piece.text).replace(" ", SPACE).replace("\r\n", LINE).replace("\n", LINE).replace("\t", TAB)
    said = said.replace("\r", "[U+000D]") or "[nothing]"
    return said if piece.tokens == 1 else f"{said}({piece.tokens} tokens)"


def _indented(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "[U+000D]").replace("\n", "\n  ")


def _notes(shown: Preview, command: str) -> Iterator[str]:
    for part in shown.parts:
        lost = f" ({part.cut} more were cut from its beginning)" if part.role == "prompt" and part.cut else ""
        line = f"{part.role}: {part.count()} tokens{lost}, {part.count(in_loss=True)} in the loss"
        if part.role != "prompt":
            line += "; cut at the length limit, so no end of turn is trained" if part.cut else "; it ends its turn"
        yield line
    if shown.equal:
        roles = " and ".join(visible(role) for (role, _, _), _ in shown.data.stored)
        yield f"{roles} are the same text: a loss of their difference learns nothing of it."
    if shown.retokenised:
        yield "A response is another tokenizer's, split anew."
    if shown.parts:
        yield "A control token spelt out in a message or a response is text: nothing turns it into the real one."
    if shown.data.fresh:
        yield (
            f"{visible(shown.data.fresh)}: sampled while it trains, from the policy as it is at that step"
            f"{'' if shown.data.share == 1 else f', in {shown.data.share:.0%} of the examples'}; there is none to show."
        )
    if shown.left_out:
        yield f"Left out of every training: the teacher's server gives no answer to it ({visible(shown.left_out)})."
    elif shown.missing:
        yield f"Not there yet: {' and '.join(shown.missing)}. This makes it: {visible(command)}"
