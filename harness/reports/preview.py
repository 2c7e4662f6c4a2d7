"""A training row on a terminal, or as plain text: text from outside is shown as it is, and nothing else than text."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from harness.core.escape import visible
from harness.run.preview import Part, Piece, Preview

SPACE, LINE, TAB = "␣", "↵", "⇥"
IN_LOSS, CONTROL = "green underline", "bold"
_HOW = {
    "responses": "prompt and the teacher's response",
    "pairs": "prompt once, then the teacher's response (chosen) and the student's (rejected)",
}


def preview_text(shown: Preview, prompt_set: str, index: int, command: str, marks: bool) -> Text:
    """One row. marks: «…» around each token in the loss, where colours cannot be seen."""
    text = Text()
    text.append(f"{', '.join(map(visible, shown.methods))}: {_HOW[shown.data]}\n", "bold")
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
        text.append(f"Tokens; {'«…» is' if marks else 'underlined is what is'} in the loss:\n")
    for part in shown.parts:
        text.append(f"  {part.role}\n", "dim")
        text.append("    ").append_text(_tokens(part, marks)).append("\n")
    for line in _notes(shown, command):
        text.append(f"{line}\n")
    return text


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
        yield "chosen and rejected are the same text: this pair teaches nothing."
    if shown.retokenised:
        yield "A response is another tokenizer's, split anew."
    if shown.parts:
        yield "A control token spelt out in a message or a response is text: nothing turns it into the real one."
    if shown.left_out:
        yield f"Left out of every training: the teacher's server gives no answer to it ({visible(shown.left_out)})."
    elif shown.missing:
        yield f"Not there yet: {' and '.join(shown.missing)}. This makes it: {visible(command)}"
