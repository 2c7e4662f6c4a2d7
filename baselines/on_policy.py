"""The rows that a claim of training on the policy's own responses travels with."""

from harness.methods import Control


def on_policy_controls(name: str, start: str = "sft") -> list[Control]:
    """What a gain of the on-policy method of that name could otherwise be: more training, or the loss alone. start: the
    checkpoint that the method starts from."""
    return [
        Control(
            f"sft-as-many-tokens-{name}",
            "sft",
            {"start": start},
            f"SFT from the same start for as many tokens as {name} trains on",
            match_tokens=True,
        ),
        Control(
            f"{name}-stored",
            name,
            {"fresh_share": 0.0, "stored": "student"},
            "the same loss on the SFT student's stored responses: a gain may be the loss, and not fresh responses",
        ),
    ]
