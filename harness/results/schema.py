"""results.json, and what figures are made of: each part of the file as a frozen type, with what it says.

`docs/results-schema.md` is generated from here. A record's fields stand in the file in the order of its bases, the last
one first, then its own. What a configuration, a plug-in's settings or a stage says is kept as it was said.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.core.records import Partial, Record
from harness.generation.protocol import Sampling
from harness.measures.measure import Better, Bound, Group, Reads, is_share
from harness.methods import MethodSettings, shaping
from harness.prompts.overlap import Overlap
from harness.run.known import moment
from harness.run.rows import Kind
from harness.statistics.agreement import JudgeAgreement, Share
from harness.statistics.contrasts import Candidates, Difference, Equivalence, InFamily, Scope
from harness.statistics.effects import Components
from harness.statistics.length import LengthControl
from harness.statistics.rates import Rates
from harness.statistics.ratios import Ratio, RatioDifference

RESULTS_SCHEMA = 4
UNTOLD = "no row is told from the next"  # why a set is unranked that nothing else is wrong with

# ---- figures: what follows from verdicts and responses


class Lengths(Record):
    """Of a system's responses; null where none is known."""

    mean_tokens: float | None = Field(description="mean tokens of a response")
    cut_share: float | None = Field(description="share of responses that were cut at the limit")


class SetFigures(Record):
    """A prompt set that candidates were judged on."""

    name: str = Field(description="the set")
    in_domain: bool = Field(description="whether it is from where the training prompts are from")
    prompts: int = Field(description="prompts that the teacher answered")
    teacher: Lengths = Field(description="the teacher's responses")
    unranked: str = Field(description="why its rows stand in no order; empty where they do")
    detectable: float | None = Field(
        description="the difference of two neighbouring rows that 80% power tells, by the judge that decides; null "
        "where nothing says"
    )


class _Place(Record):
    prompt_set: str = Field(description="the prompts")
    in_domain: bool = Field(description="as the set's")
    method: str = Field(description="the candidate: a method, a control, the untrained student or a second teacher")
    kind: Kind = Field(description="which of these it is")
    judge: str = Field(description="by whose verdicts")


class _Doubts(Record):
    flips: Share = Field(description="prompts judged in both orders with one preference in each; they are ties")
    identical: int = Field(description="responses that are the teacher's own text: ties that nobody was asked about")


class _Runs(Record):
    by_run: tuple[float | None, ...] = Field(description="each run's preference rate; null where it has no such row")
    spread: float | None = Field(description="their standard deviation, of two runs or more")
    components: Components = Field(description="what an outcome's deviation from the row's rate is made of")
    rank: tuple[int, int] | None = Field(
        description="first and last place of those that cannot be told apart; null where nothing is ranked"
    )


class Row(_Runs, Lengths, _Doubts, Rates, _Place):
    """One candidate against the teacher on one prompt set, by one judge."""

    @property
    def judged_in(self) -> int:
        """How many runs have such a row."""
        return sum(rate is not None for rate in self.by_run)


class JudgingFigures(Record):
    """One judge's verdicts over all candidates and sets, those of students against each other too, counted."""

    judge: str = Field(description="whose they are")
    verdicts: int = Field(description="all of them")
    ok: int = Field(description="with a preference")
    unparsable: int = Field(description="answers that could not be read")
    failed: int = Field(description="no answer came")
    skipped: int = Field(description="not asked for")
    identical: int = Field(description="on responses that are the same text: nobody was asked")
    truncated: int = Field(description="on texts that the judge read in part")
    forms: dict[str, int] = Field(description="by the form that it was asked in; empty for one that is not asked")
    flips: int = Field(description="prompts with one preference in each order")
    both_orders: int = Field(description="prompts judged ok in both orders")
    ties: int = Field(description="outcomes that are ties")
    outcomes: int = Field(description="outcomes")


class _Declared(Record):
    distinguishable: bool = Field(description="whether p_holm is at most 0.05")
    declared: bool = Field(
        description="whether it was declared before the first verdict or measure of either row was there, and all that "
        "was declared with it is here too; else it was chosen afterwards"
    )


class ContrastFigures(_Declared, Difference, InFamily, Scope):
    """A contrast: first − second, in preference rate, on the same prompts."""

    primary: bool = Field(
        default=False,
        description="whether it is the primary contrast that was named; one that was named afterwards is corrected as "
        "any other of its family",
    )
    equivalence: Equivalence | None = Field(description="whether it is small; null where no margin was named")
    margin_declared: bool = Field(
        description="whether this margin was declared with it; else it was chosen afterwards, or none was named"
    )


class _Compared(Record):
    prompt_set: str = Field(description="the prompts")
    method: str = Field(description="the candidate")
    judge: str = Field(description="by whose verdicts: the judge that decides")


class LengthFigures(LengthControl, _Compared):
    """How much of a row's preference rate is the length of its responses."""


MeasuredKind = Kind | Literal["teacher"]


class _Measuring(Record):
    measure: str = Field(description="the measure")
    prompt_set: str = Field(description="the prompts")
    in_domain: bool = Field(description="as the set's")
    method: str = Field(description="whose responses, or whose distribution: a row of the board, or the teacher")
    kind: MeasuredKind = Field(description="which of these it is")


class MeasureRow(Ratio, _Measuring):
    """One measure of one system on one prompt set."""

    by_run: tuple[float | None, ...] = Field(description="each run's value; null where it has no such row")
    spread: float | None = Field(description="their standard deviation, of two runs or more")
    components: Components = Field(description="what a prompt's deviation from the row's value is made of")
    own_loss: bool = Field(description="whether the row was trained to minimise this very measure")


class MeasureContrast(_Declared, RatioDifference, InFamily, Scope):
    """A contrast in one measure, which has families of its own; none is primary."""

    measure: str = Field(description="the measure")
    better: str = Field(description="the one that it finds better; empty where they are not told apart, or none is")


class Disagreement(Scope):
    """Two measures, or one and the judge, that tell two rows apart in opposite orders."""

    for_first: tuple[str, ...] = Field(description="by these the first is better")
    for_second: tuple[str, ...] = Field(description="by these the second is better")


class _Harmed(Record):
    method: str = Field(description="a row that was trained")
    measure: str = Field(description="a measure of fidelity with a direction")
    scope: str = Field(description="a prompt set, or a domain of several")
    looks: int = Field(
        description="how many differences p is corrected for (Holm): those of all trained rows in this measure, on "
        "single sets or on domains"
    )


class Harm(RatioDifference, _Harmed):
    """A row whose student is further from its teacher than before training: its value − the untrained student's, told
    apart from 0 after Holm, in the direction that is not better."""


class LuckFigures(Record):
    """What another seed would move in a row's figure, from all rows that were trained: a part of the variance of every
    contrast over several seeds."""

    measure: str = Field(description="the measure; empty for the preference rate by the judge that decides")
    own: float = Field(description="standard deviation of what a seed moves in each row for itself")
    own_degrees: int = Field(description="its degrees of freedom; 0 of one row, which cannot tell it from `shared`")
    shared: float = Field(description="standard deviation of what a seed moves in all rows alike")
    shared_degrees: int = Field(description="its degrees of freedom")
    rows: int = Field(description="rows that it was found from")
    seeds: int = Field(description="seeds that all of these have")
    prompts: int = Field(description="prompts that all of these have, of all sets")


class VersusFigures(Rates, Candidates):
    """Two students' responses, judged against each other: wins are the first's."""

    prompt_set: str = Field(description="the prompts")
    in_domain: bool = Field(description="as the set's")
    judge: str = Field(description="by whose verdicts")
    flips: Share = Field(description="prompts judged in both orders with one preference in each; they are ties")


class Figures(Record):
    """All that follows from verdicts, responses, what was measured, and what was declared."""

    prompt_sets: tuple[SetFigures, ...] = Field(description="the sets, in their order")
    rows: tuple[Row, ...] = Field(description="every candidate on every set by every judge: set, judge, candidate")
    judging: tuple[JudgingFigures, ...] = Field(description="every judge that was asked")
    agreement: tuple[JudgeAgreement, ...] = Field(description="each two of several judges that were named")
    contrasts: tuple[ContrastFigures, ...] = Field(description="on single sets, then on domains of several")
    length: tuple[LengthFigures, ...] = Field(description="every candidate on every set")
    measures: tuple[MeasureRow, ...] = Field(default=(), description="every system on every set by every measure")
    measure_contrasts: tuple[MeasureContrast, ...] = Field(
        default=(), description="measure by measure: on single sets, then on domains of several"
    )
    disagreements: tuple[Disagreement, ...] = Field(
        default=(), description="declared contrasts that measures, or a measure and the judge, decide differently"
    )
    harms: tuple[Harm, ...] = Field(
        default=(), description="rows that are further from the teacher than before training, measure by measure"
    )
    luck: tuple[LuckFigures, ...] = Field(default=(), description="what another seed would move, of several seeds")
    versus: tuple[VersusFigures, ...] = Field(default=(), description="students judged against each other directly")


# ---- what a run says beside its figures


class RunFacts(Partial):
    """One run. Pooled results have several."""

    name: str = Field(description="student, seed and a digest of the run")
    seed: int = Field(description="of SFT, student responses, trainings and evaluation")
    date: str = Field(description="when its last artifact was made, YYYY-MM-DD")
    harness: str | None = Field(description="version of the harness")
    command: str = Field(description="what reproduces it")
    point: dict[str, JsonValue] = Field(default={}, description="of a study's run: its point of the grid")
    lacking: dict[str, tuple[str, ...]] = Field(
        default={},
        description="by the families that its stamps name, digests of the contrasts that are not here; nothing in "
        "older ones",
    )


class PairFacts(Record):
    """Who learns from whom."""

    student: str = Field(description="as it was asked for")
    teacher: str = Field(description="as it was asked for")
    weights: dict[str, str | None] = Field(description="digest or artifact of each one's weights; null behind a server")


class PruningFacts(Partial):
    """What pruning the student came to, in the words of its stage."""

    model_config = ConfigDict(extra="allow")

    parameters_before: int = Field(description="of the model that was pruned")
    parameters: int = Field(description="of the student")


class JudgeFacts(Record):
    """A judge, or a panel of those named."""

    name: str = Field(description="as it was asked for")
    summary: str = Field(description="what it does")
    misses: str = Field(description="what a proxy cannot see; empty for a judge that reads")
    setup: dict[str, str] = Field(description="model, server, template, …: what an answer depends on")
    digest: str = Field(description="of everything that an answer depends on")
    relation: str = Field(default="", description="how it is related to the teacher; empty where no relation is known")


class _From(Partial):
    """Where prompts are from, as far as it is known."""

    digest: str = Field(description="of the prompts, in their order")
    source: str = Field(default="", description="file or data set")
    license: str = Field(default="", description="licence of the prompts")
    duplicates: int = Field(default=0, description="prompts that were left out, being there already")
    left_out: dict[str, str] = Field(
        default={},
        description="prompts that the teacher's server gives no answer to, by id with the reason: they count nowhere",
    )


class _TrainingPrompts(Partial):
    prompt_set: str = Field(description="the training prompts")
    prompts: int = Field(description="how many the teacher answered")


class _TeacherResponses(Partial):
    sampling: Sampling = Field(description="how the teacher's responses were drawn")
    mean_tokens: float = Field(description="mean tokens of a response of the teacher")
    cut_share: float = Field(description="share of them that were cut at the limit")


class TrainingFacts(_TeacherResponses, _From, _TrainingPrompts):
    """What was trained on."""


class EvaluationFacts(Record):
    """How everyone's responses to the evaluation prompts were drawn."""

    sampling: Sampling = Field(description="the same for all")


class RecordedSettings(MethodSettings):
    """A training's settings that shape it; a method's own stand beside those that all have."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="before")
    @classmethod
    def _shaping_alone(cls, data: Any) -> Any:
        """Files of before still say how a training was computed."""
        return shaping(data) if isinstance(data, dict) else data

    @model_serializer(mode="wrap")
    def _as_given(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in whole(self).items() if name in self.model_fields_set}

    @property
    def own(self) -> dict[str, Any]:
        """Those that not every method has."""
        return dict(self.model_extra or {})


class TrainedFacts(Partial):
    """What a training came to, in the words of its stage."""

    model_config = ConfigDict(extra="allow")

    tokens: int = Field(description="tokens that went through the student, of all epochs")
    budget: int | None = Field(
        default=None,
        description="tokens that it was to take, where it takes as many as another row: that one's with those of its "
        "start, but for those of its own start; it ends with the step that reaches them",
    )
    fresh_tokens: int = Field(default=0, description="of these, tokens that the student wrote as it trained")
    cut: int = Field(default=0, description="responses that it wrote so which were cut at the limit")
    prompts_cut: int = Field(default=0, description="training prompts that lost their beginning")
    retokenised: bool = Field(default=False, description="whether responses of one tokenizer were split for another")
    steps: int = Field(description="steps of the optimizer")
    dropout: dict[str, float] = Field(default={}, description="what its checkpoint drops in training, where it does")
    dropout_on: bool = Field(default=False, description="whether it did in this one")


class _Said(Partial):
    name: str = Field(description="the row")
    method: str = Field(description="the method that it was trained with")
    controls: str = Field(description="the row that it is a control of; empty for a method that was asked for")
    token_matched: bool = Field(description="whether it was trained for as many tokens as another row")
    match: str = Field(default="", description="that row, where it is not the one that it controls")
    why: str = Field(description="what a control is for")
    settings: RecordedSettings = Field(description="its settings, but those that say only how it is computed")
    minimises: tuple[str, ...] = Field(default=(), description="the measures that its loss is")

    @property
    def matches(self) -> str:
        """The row that it was trained for as many tokens as; empty for none."""
        return self.match or (self.controls if self.token_matched else "")


class MethodFacts(_Said):
    """A row that was trained."""

    artifact: str = Field(description="its training in the store: train/KEY")
    facts: TrainedFacts = Field(description="what the training came to")
    own_name: str = Field(default="", description="of several runs: its name in each of them, where it is another here")
    point: dict[str, JsonValue] = Field(
        default={},
        description="of a study's runs: the settings of its grid on which those that have this row agree, and others "
        "differ",
    )


class MeasureFacts(Record):
    """A measure that is shown."""

    name: str = Field(description="as `list measures` has it")
    digest: str = Field(description="of what its values follow from")
    head: str = Field(description="a column's head")
    group: Group = Field(description="the table that it stands in")
    aside: bool = Field(description="whether it is in the report alone, as another measure nearly says it")
    reads: Reads = Field(description="which artifacts its values follow from")
    summary: str = Field(description="what it is")
    misses: str = Field(description="what it cannot see")
    unit: str = Field(description="of its values; one that begins with `share` is shown in percent")
    better: Better = Field(description="which way is better")
    bound: Bound = Field(description="what it is here: exact, or a bound where a server gave the teacher's top k alone")
    teacher_bound: Bound = Field(description="the same of the teacher's own value")

    @property
    def share(self) -> bool:
        """Whether its values lie in 0..1, and are shown in percent."""
        return is_share(self.unit)

    @property
    def by_token(self) -> bool:
        """Whether it reads both distributions, at the temperature of the evaluation."""
        return self.reads in ("teacher_tokens", "own_tokens")


class CostFacts(Record):
    """What a row took: its own training and all that it rests on, as if nothing had been shared with others."""

    method: str = Field(description="the row")
    trained_tokens: int = Field(description="tokens that went through the student in training, SFT's included")
    teacher_read_tokens: int = Field(description="tokens that the teacher read, for its log-probs or distributions")
    teacher_sampled_tokens: int = Field(description="tokens that the teacher wrote")
    student_sampled_tokens: int = Field(description="tokens that a student wrote to be trained on")
    seconds: dict[str, float] = Field(description="how long that took, by stage")
    peak_memory: int | None = Field(description="bytes of its device at most, in its training; null where unknown")
    device: str = Field(description="what it was trained on")


class RetentionFacts(Record):
    """What a model still can, by a task of lm-evaluation-harness."""

    method: str = Field(description="a row of the board, or the teacher")
    kind: MeasuredKind = Field(description="which of these it is")
    task: str = Field(description="the task")
    digest: str = Field(description="of what the task is")
    metric: str = Field(description="the task's metric, with its filter")
    value: float = Field(description="its value")
    standard_error: float | None = Field(description="as the task has it; null where it has none")
    n: int = Field(description="documents of the task that were asked")
    higher_is_better: bool | None = Field(description="as the task has it; null where it does not say")


class TryFacts(Record):
    """A method with settings that were tried: its training at the search's seed, and what it was worth."""

    method: str = Field(description="the method")
    point: dict[str, JsonValue] = Field(description="the settings, by their full keys")
    value: float | None = Field(description="of the criterion, on the validation prompts; null where it is not finite")
    standard_error: float | None = Field(description="of the value, over prompts; null where there is none")
    apart: float | None = Field(
        description="standard error of its difference from the one that was found, on the same prompts; null of that "
        "one itself, and where there is none"
    )
    tokens: int | None = Field(
        description="that went through the student in its training; null where that came to no number"
    )
    seconds: float = Field(description="of its training, and of what says its value")
    training: str = Field(description="the training in the store: train/KEY")
    measured: str = Field(description="the artifact that has its value, prompt by prompt")


class FoundFacts(Record):
    """What a method is trained with: the best of its tries, the first of equals."""

    method: str = Field(description="the method")
    point: dict[str, JsonValue] = Field(description="the settings, by their full keys")
    edge: tuple[str, ...] = Field(
        description="those of them that are the least or the greatest that was tried: a better one may lie beyond"
    )


class SearchFacts(Record):
    """How settings were chosen: equally many tries a method, each trained at one seed on the training prompts, and
    judged on prompts held out of these, on which nothing is trained."""

    criterion: str = Field(description="the measure that tries are judged by, or `loss`: each method's own loss")
    head: str = Field(description="what it is called in tables")
    better: Better = Field(description="which way is better")
    unit: str = Field(description="of its values; one that begins with `share` is shown in percent")
    seed: int = Field(description="of the tries")
    prompt_set: str = Field(description="the validation prompts")
    digest: str = Field(description="of these, in their order")
    prompts: int = Field(description="how many of them the teacher answered")
    share: float = Field(description="of the training prompts that were held out, as it was asked for")
    left_out: dict[str, str] = Field(
        description="prompts that the teacher's server gives no answer to, by id with the reason"
    )
    own_losses: tuple[str, ...] = Field(
        description="methods whose own loss the criterion is: chosen by it, they have an advantage"
    )
    tries: tuple[TryFacts, ...] = Field(description="all of them, method by method")
    found: tuple[FoundFacts, ...] = Field(description="of each method")

    def of(self, method: str) -> list[TryFacts]:
        return [one for one in self.tries if one.method == method]

    @property
    def outcome(self) -> dict[str, Any]:
        """All of it but how long it took."""
        told = self.model_dump(mode="json")
        return {**told, "tries": [{**one, "seconds": 0.0} for one in told["tries"]]}


class StampFacts(Candidates, Partial):
    """When a contrast on one prompt set was declared, and when the first verdict or measure of either row was there."""

    run: str = Field(description="the run")
    prompt_set: str = Field(description="the prompts")
    time: str = Field(description="when the first stage of the first run that declared it was to begin, ISO 8601")
    family: str = Field(description="a digest of all contrasts that were declared together, of primary and margin")
    primary: bool = Field(description="whether it was the primary one then, and no family before had named another")
    margin: float | None = Field(description="what was to count as no difference then, in the rate's unit")
    began: str = Field(description="when the first verdict or measure of either row was begun; empty where none is")
    dropped: int | None = Field(
        default=0,
        description="how many contrasts on sets are neither in the run nor in another beside it, of those that "
        "were declared with it, or of its rows by any start before something was known: where there are any, what is "
        "left was chosen afterwards; null where nothing says",
    )
    contrast: str = Field(
        default="", description="a digest of the responses of its rows, which it is known by; empty in older ones"
    )

    @property
    def early(self) -> bool:
        """Whether it was declared before anything told of its rows."""
        time, began = moment(self.time), moment(self.began)
        return time is not None and (not self.began or (began is not None and time < began))

    @property
    def before(self) -> bool:
        """Whether it was so, and nothing was left out since of what was declared with it."""
        return self.early and self.dropped == 0


class SetFacts(_From, SetFigures):
    """A prompt set that candidates were judged on, where it is from, and what training saw of it."""

    unmeasured: str = Field(default="", description="why not all that was asked for was measured; empty if it was")
    unpooled: tuple[str, ...] = Field(
        default=(), description="measures that several runs do not have alike, and that are not pooled"
    )
    overlap: Overlap | None = Field(default=None, description="what it has in common with the training prompts")


class Configured(BaseModel):
    """What of a run's configuration is read again, whatever else a version's configurations have."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    class Judge(BaseModel):
        model_config = ConfigDict(frozen=True, extra="ignore")

        name: str
        samples: int

        @property
        def names(self) -> list[str]:
            return [name.strip() for name in self.name.split(",")]

    judge: Judge
    contrasts: tuple[tuple[str, str], ...] | None
    primary: tuple[str, str] | None = None
    margin: float | None = None
    versus: tuple[tuple[str, str], ...] = ()
    student: str
    teacher: str | None
    methods: tuple[str, ...]
    train_prompts: str
    train_sampling: dict[str, JsonValue]
    eval_sampling: dict[str, JsonValue]
    samples: int = 1
    max_prompt_tokens: int | None
    scoring_precision: str
    settings: dict[str, dict[str, JsonValue]]
    seed: int


class _Heading(Record):
    version: int = Field(default=RESULTS_SCHEMA, alias="schema", description="version of this schema")
    name: str = Field(description="the run's name; of pooled ones all of them")
    runs: tuple[RunFacts, ...] = Field(description="the runs")
    pair: PairFacts = Field(description="who learns from whom")
    pruning: PruningFacts | None = Field(description="of a pruned student")
    judge: str = Field(description="the judge that decides: that named, or the majority of several")
    judges: tuple[JudgeFacts, ...] = Field(description="every judge that is shown, panels first")
    judge_samples: int = Field(description="further teacher samples a prompt, for judges that read measures")
    training: TrainingFacts = Field(description="what was trained on")
    evaluation: EvaluationFacts = Field(description="how responses to judge were drawn")
    methods: tuple[MethodFacts, ...] = Field(description="the rows that were trained")
    measured: tuple[MeasureFacts, ...] = Field(default=(), description="the measures that are shown, in their order")
    first_measure: str = Field(
        default="", description="the one that was declared to be looked at before the others; empty where none was"
    )
    stamps: tuple[StampFacts, ...] = Field(
        default=(), description="when each contrast was declared; of older versions nothing says"
    )
    differing: tuple[Literal["primary", "margin", "training", "search"], ...] = Field(
        default=(),
        description="what several runs named differently, so that it is none here; `training` where their training "
        "prompts, or the teacher's responses to them, differ, so that `training` is the first run's",
    )
    search: SearchFacts | None = Field(
        default=None,
        description="how settings were chosen; not there where none were, or several runs were tuned apart",
    )
    costs: tuple[CostFacts, ...] = Field(
        default=(), description="what each of these took; of several runs the mean, of memory the most"
    )
    retention: tuple[RetentionFacts, ...] = Field(default=(), description="what models still can, where it was asked")


class Results(Figures, _Heading):
    """All that a run's folder says in results.json."""

    model_config = ConfigDict(populate_by_name=True)

    prompt_sets: tuple[SetFacts, ...] = Field(description="the sets, in their order")
    config: dict[str, JsonValue] = Field(description="the run's configuration, as in config.yaml")

    @model_serializer(mode="wrap")
    def _as_given(self, whole: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A file from before harm was said, or of settings that were not searched, stays as it is."""
        unsaid = {"search"} if self.search is None else set()
        unsaid |= {"harms"} - self.model_fields_set
        return {name: value for name, value in whole(self).items() if name not in unsaid}

    @cached_property
    def configured(self) -> Configured:
        return Configured.model_validate(self.config)

    def judge_named(self, name: str) -> JudgeFacts:
        return next(judge for judge in self.judges if judge.name == name)

    def rows_of(self, prompt_set: str) -> list[Row]:
        """The deciding judge's rows of a set in the order of every table and chart: by preference rate where the set is
        ranked; else the ceiling, methods as asked, their controls, the start."""
        rows = [row for row in self.rows if row.prompt_set == prompt_set and row.judge == self.judge]
        if any(entry.name == prompt_set and not entry.unranked for entry in self.prompt_sets):
            return sorted(rows, key=lambda row: (not row.n, -(row.preference_rate or 0)))
        place = {"ceiling": 0, "method": 1, "control": 2, "untrained": 3}
        return sorted(rows, key=lambda row: place[row.kind])
