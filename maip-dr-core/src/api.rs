//! The one face for the command line and the bindings: owned data in, owned data out.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::check::{CheckRow, check};
use crate::clock::{Clock, SystemClock};
use crate::engine::state::RunState;
use crate::engine::{Decider, Driven, Engine, Pause, Setup, Update};
use crate::error::{Error, ErrorKind, Result, Risk};
use crate::id::{RegionId, RunId, StepId};
use crate::journal::{
    Choice, Event, FileJournals, JOURNAL_VERSION, Journal, Journals, Outcome, Record, RunStart, Who, millis,
};
use crate::plan::{Plan, ancestors};
use crate::procedure::PlanRequest;
use crate::region::World;
use crate::service::Caller;
use crate::step::{Observed, Registry, StepCtx};
use crate::survey::{Survey, check_account};
use crate::topology::Topology;

/// Which world a client works on.
#[derive(Debug, Clone)]
pub enum Place {
    /// The real one.
    Aws,
    /// The sandbox kept in the state directory, so many simulated seconds a real one.
    #[cfg(feature = "sim")]
    Sandbox(crate::sim::Speed),
    /// A sandbox that this process holds.
    #[cfg(feature = "sim")]
    Held(crate::sim::Sandbox),
}

impl Place {
    fn name(&self) -> &'static str {
        match self {
            Self::Aws => "aws",
            #[cfg(feature = "sim")]
            Self::Sandbox(_) | Self::Held(_) => "sandbox",
        }
    }
}

/// Works on one state directory, and on one topology where one is given.
#[derive(Debug, Clone)]
pub struct Client {
    state: PathBuf,
    topology: Option<Arc<Topology>>,
    place: Place,
    registry: Registry,
    by: Who,
    journals: Option<Arc<dyn Journals>>,
}

/// What a person gives a run.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// Approve the gate without asking.
    pub yes: bool,
    /// The risks taken beforehand.
    pub accept: Vec<Risk>,
    /// When the application failed.
    pub impact_at: Option<Timestamp>,
    /// Why.
    pub why: Option<String>,
}

/// Who watches, answers and pauses.
#[derive(Clone)]
pub struct Hooks {
    /// Sees every record and every progress note.
    pub sink: Arc<dyn Fn(Update) + Send + Sync>,
    /// Is asked.
    pub decider: Arc<dyn Decider>,
    /// Pauses.
    pub pause: Pause,
}

impl Default for Hooks {
    fn default() -> Self {
        Self { sink: Arc::new(|_| {}), decider: Arc::new(crate::engine::Refuse), pause: Pause::default() }
    }
}

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

/// A run that has begun and waits to be driven. Its first record is durable.
#[derive(Debug)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    engine: Engine,
    _lock: Option<File>,
}

impl Run {
    /// Drives it until it ends, is held or is paused.
    ///
    /// # Errors
    /// The journal's, when it cannot be written any more.
    pub async fn drive(self) -> Result<Driven> {
        self.engine.drive().await
    }
}

/// A row of `runs`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunRow {
    /// The run.
    pub run: RunId,
    /// Its procedure.
    pub procedure: String,
    /// How it stands; null while it goes on or is interrupted.
    pub outcome: Option<Outcome>,
    /// When it began.
    #[serde(with = "millis")]
    pub started_at: Timestamp,
    /// `aws` or `sandbox`.
    pub world: String,
    /// Whether a live process drives it now.
    pub driven: bool,
    /// Why its journal cannot be read, if it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a dry run found about a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DryStep {
    /// The step.
    pub id: StepId,
    /// Its kind.
    pub kind: String,
    /// `would_do`, `done`, `underway`, `would_fail`, `would_be_held`, `unknown`.
    pub finding: &'static str,
    /// In words.
    pub detail: String,
    /// Whether it was seen as the world is now, before the steps that come first.
    pub before_others: bool,
}

impl Client {
    /// A client for the runs in `state`; `topology` is needed for everything that plans or reads a world.
    pub fn new(state: impl Into<PathBuf>, topology: Option<Topology>, place: Place, by: Who) -> Self {
        let journals = None;
        Self {
            state: state.into(),
            topology: topology.map(Arc::new),
            place,
            registry: crate::steps::registry(),
            by,
            journals,
        }
    }

    /// Uses these journals instead of files in the state directory.
    #[must_use]
    pub fn with_journals(mut self, journals: Arc<dyn Journals>) -> Self {
        self.journals = Some(journals);
        self
    }

    /// The step kinds.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The topology.
    ///
    /// # Errors
    /// `Invalid` when the client was made without one.
    pub fn topology(&self) -> Result<&Arc<Topology>> {
        self.topology.as_ref().ok_or_else(|| {
            Error::invalid("this needs a topology file")
                .hint("write maip-dr.yaml here, or name one with --config; examples/maip-prod.yaml is a start. `--sandbox` needs none")
        })
    }

    /// Where runs are recorded.
    pub fn journals(&self) -> Arc<dyn Journals> {
        if let Some(journals) = &self.journals {
            return journals.clone();
        }
        Arc::new(FileJournals::new(self.runs_folder()))
    }

    fn runs_folder(&self) -> PathBuf {
        let named = self.topology.as_ref().and_then(|t| t.journal.file.clone());
        named.unwrap_or_else(|| self.state.join("runs"))
    }

    /// Every run in the order in which they were begun on this machine. Their ids do not tell: runs of one minute
    /// differ by chance only, and the sandbox's time is not this machine's.
    async fn in_order(&self) -> Result<Vec<RunId>> {
        let mut runs = self.journals().runs().await?;
        if self.journals.is_none() {
            let folder = self.runs_folder();
            let made =
                |run: &RunId| std::fs::metadata(folder.join(run.as_str())).and_then(|m| m.modified()).ok();
            runs.sort_by_cached_key(made);
        }
        Ok(runs)
    }

    /// The file of the kept sandbox of `application`.
    pub fn sandbox_file(&self, application: &str) -> PathBuf {
        self.state.join("sandbox").join(format!("{application}.json"))
    }

    /// The world for `topology`, under the name that a run was recorded with.
    async fn world_named(&self, name: &str, topology: &Topology) -> Result<World> {
        match (&self.place, name) {
            #[cfg(feature = "sim")]
            (Place::Held(sandbox), "sandbox") => Ok(sandbox.world()),
            #[cfg(feature = "sim")]
            (place, "sandbox") => {
                let speed = match place {
                    Place::Sandbox(speed) => *speed,
                    _ => crate::sim::Speed::Max,
                };
                let file = self.sandbox_file(&topology.application);
                Ok(crate::sim::Sandbox::open(&file, topology, speed)?.world())
            }
            #[cfg(feature = "aws")]
            (_, "aws") => crate::aws::world(topology).await,
            _ => {
                let _ = topology;
                Err(Error::invalid(format!("this build of maip-dr has no {name} world"))
                    .hint("build it with its default features, or use --sandbox"))
            }
        }
    }

    /// The world of this client's topology.
    ///
    /// # Errors
    /// `Invalid` without a topology or the feature, and what opening the world answers.
    pub async fn world(&self) -> Result<World> {
        self.world_named(self.place.name(), self.topology()?).await
    }

    /// Reads everything, changes nothing.
    ///
    /// # Errors
    /// `Invalid` for a Region that the topology does not name. What cannot be read is a row, not an error.
    pub async fn check(&self, region: Option<&RegionId>) -> Result<Vec<CheckRow>> {
        let world = self.world().await?;
        let topology = self.topology()?.clone();
        on_clock(&world, check(&world, &topology, region)).await
    }

    /// A plan of a built-in procedure.
    ///
    /// # Errors
    /// `Invalid`, and what the survey of the world answers.
    pub async fn plan(&self, procedure: &str, request: &PlanRequest) -> Result<Plan> {
        let procedure = crate::procedures::named(procedure)?;
        let topology = self.topology()?.clone();
        let (to, _) = request.direction(&topology)?;
        let world = self.world().await?;
        on_clock(&world, async {
            let seen = Survey::take(&world, &topology, &to).await?;
            procedure.plan(request, &topology, &seen)?.complete(&self.registry, &topology)
        })
        .await
    }

    /// A plan from a procedure file or a plan file.
    ///
    /// # Errors
    /// `Invalid`, with the position; `Conflict` when a plan's hash does not match.
    pub fn plan_from(&self, text: &str, file: &str) -> Result<Plan> {
        let plan: Plan = serde_saphyr::from_str(text).map_err(|e| {
            Error::invalid(format!("{file}: {e}"))
                .hint("a procedure file has `procedure`, and `steps` with `id`, `kind`, `with` and `after`")
        })?;
        plan.complete_as_signed(&self.registry, self.topology()?)
    }

    /// Looks at every step of `plan` and makes no mutating call.
    ///
    /// # Errors
    /// What opening the world answers.
    pub async fn dry_run(&self, plan: &Plan, options: &RunOptions) -> Result<Vec<DryStep>> {
        let world = self.world().await?;
        let topology = self.topology()?.clone();
        on_clock(&world, self.look_at_all(&world, &topology, plan, options)).await
    }

    async fn look_at_all(
        &self,
        world: &World,
        topology: &Arc<Topology>,
        plan: &Plan,
        options: &RunOptions,
    ) -> Result<Vec<DryStep>> {
        let before = ancestors(&plan.steps)?;
        let mut outputs = std::collections::BTreeMap::new();
        let mut undone = std::collections::BTreeSet::new();
        let mut found = Vec::new();
        let mut left: Vec<_> = plan.steps.iter().collect();
        while !left.is_empty() {
            let (ready, rest): (Vec<_>, Vec<_>) =
                left.iter().partition(|s| !left.iter().any(|o| before[&s.id].contains(&o.id)));
            left = rest;
            let looks = ready.into_iter().map(|planned| {
                let cx = StepCtx {
                    world: world.clone(),
                    topology: topology.clone(),
                    run: RunId::from("dry-run"),
                    step: planned.id.clone(),
                    impact_at: options.impact_at,
                    accepted: options.accept.clone(),
                    began: world.clock.now(),
                    started: None,
                    outputs: Arc::new(outputs.clone()),
                    notes: Arc::new(|_, _| {}),
                };
                async move {
                    if planned.kind == crate::plan::GATE {
                        return Ok((planned, Ok(Observed::Underway("asks a person".into()))));
                    }
                    let step = self.registry.build(&planned.kind, &planned.with, topology)?;
                    let limit = std::time::Duration::from_secs(30);
                    let seen =
                        crate::clock::timeout(cx.clock(), limit, step.observe(&cx)).await.and_then(|r| r);
                    Ok::<_, Error>((planned, seen))
                }
            });
            for (planned, seen) in futures::future::try_join_all(looks).await? {
                let before_others = before[&planned.id].iter().any(|id| undone.contains(id));
                let (finding, detail) = match seen {
                    Ok(Observed::Done(output)) => {
                        let detail = output
                            .get("detail")
                            .and_then(Value::as_str)
                            .unwrap_or("as it should be")
                            .to_owned();
                        outputs.insert(planned.id.clone(), (planned.kind.clone(), output));
                        ("done", detail)
                    }
                    Ok(Observed::NotDone { .. }) => ("would_do", planned.summary.clone()),
                    Ok(Observed::Underway(note)) => ("underway", note),
                    Ok(Observed::Unknown(e)) => ("unknown", e.one_line()),
                    Ok(Observed::Failed(e)) | Err(e) => {
                        let held = e.needs.as_ref().map(|risk| risk.option());
                        if let Some(output) = e.found.as_deref() {
                            outputs.insert(planned.id.clone(), (planned.kind.clone(), output.clone()));
                        }
                        match held {
                            Some(option) => {
                                ("would_be_held", format!("{} (goes on with {option})", e.one_line()))
                            }
                            None if before_others => ("unknown", e.one_line()),
                            None => ("would_fail", e.one_line()),
                        }
                    }
                };
                if finding != "done" {
                    undone.insert(planned.id.clone());
                }
                found.push(DryStep {
                    id: planned.id.clone(),
                    kind: planned.kind.clone(),
                    finding,
                    detail,
                    before_others,
                });
            }
        }
        Ok(found)
    }

    /// Begins a run of `plan`. Its first record is durable when this returns.
    ///
    /// # Errors
    /// `Conflict` when another run of the application is active in this state directory; those of the journal.
    pub async fn start(&self, plan: Plan, options: RunOptions, hooks: Hooks) -> Result<Run> {
        let topology = self.topology()?.clone();
        let world = self.world().await?;
        let journals = self.journals();
        let lock = self.lock(&topology.application, self.place.name(), None, &*journals).await?;
        let caller = on_clock(&world, who_we_are(&world, &topology, &plan)).await?;
        let id = RunId::generate(world.clock.now(), random());
        let start = RunStart {
            version: JOURNAL_VERSION,
            application: topology.application.clone(),
            procedure: plan.procedure.clone(),
            world: self.place.name().to_owned(),
            impact_at: options.impact_at,
            caller,
            by: self.by.clone(),
            why: options.why.clone(),
            plan,
            topology: (*topology).clone(),
        };
        let journal = journals.create(&id).await?;
        self.note_in_lock(lock.as_ref(), &id)?;
        let engine = Engine::begin(id.clone(), start, journal, self.setup(world, options, hooks)).await?;
        Ok(Run { id, engine, _lock: lock })
    }

    /// Takes a run up again, with the plan, topology and world it began with.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it has ended or another process drives it; `Corrupt`.
    pub async fn resume(&self, run: &str, options: RunOptions, hooks: Hooks) -> Result<Run> {
        let journals = self.journals();
        let id = self.find(run).await?;
        let start = RunState::fold(&journals.read(&id).await?)?.start;
        let lock = self.lock(&start.application, &start.world, Some(&id), &*journals).await?;
        let (journal, records) = journals.open(&id).await?;
        let state = RunState::fold(&records)?;
        let world = self.world_named(&state.start.world, &state.start.topology).await?;
        let caller = on_clock(&world, who_we_are(&world, &state.start.topology, state.plan())).await?;
        if let (Some(then), Some(now)) = (&state.start.caller, &caller)
            && then.account != now.account
        {
            return Err(Error::refused(format!(
                "run {id} was begun in account {}, and these credentials are for {}",
                then.account, now.account
            ))
            .hint("use the profile or role that it was begun with; nothing was changed"));
        }
        let engine = Engine::resume(&records, journal, self.setup(world, options, hooks)).await?;
        Ok(Run { id, engine, _lock: lock })
    }

    fn setup(&self, world: World, options: RunOptions, hooks: Hooks) -> Setup {
        Setup {
            world,
            registry: self.registry.clone(),
            decider: hooks.decider,
            pause: hooks.pause,
            sink: hooks.sink,
            by: self.by.clone(),
            approve: options.yes.then(|| options.why.clone()),
            accept: options.accept,
            why: options.why,
        }
    }

    /// Records a person's decision. The run goes on with `resume`; `abandon` ends it at once.
    ///
    /// # Errors
    /// `Invalid` when the choice does not fit how the run stands; `Refused` for skipping what the DNS switch
    /// depends on while it is not done; `Conflict` while another process drives the run.
    pub async fn decide(
        &self,
        run: &str,
        step: Option<&StepId>,
        choice: Choice,
        why: Option<String>,
    ) -> Result<()> {
        let journals = self.journals();
        let id = self.find(run).await?;
        let (mut journal, records) = journals.open(&id).await?;
        let mut state = RunState::fold(&records)?;
        if let Some((outcome, _)) = &state.ended {
            return Err(Error::conflict(format!("run {id} has ended: {}", outcome.as_str())));
        }
        if let (Some(step), Choice::Skip) = (step, choice) {
            self.may_skip(&state, step).await?;
        }
        let at = decided_at(&state, &records);
        let decided = Event::Decided { choice, by: self.by.clone(), why };
        append(&mut *journal, &mut state, at, step, decided).await.map_err(|e| {
            if e.kind == ErrorKind::Corrupt {
                Error::invalid(format!("run {id} does not wait for that decision: {}", e.message))
                    .hint(format!("`maip-dr status {id}` shows what it waits for"))
            } else {
                e
            }
        })?;
        if choice == Choice::Abandon {
            let ended = Event::RunEnded { outcome: Outcome::Abandoned, error: None };
            append(&mut *journal, &mut state, at, None, ended).await?;
        }
        Ok(())
    }

    async fn may_skip(&self, state: &RunState, step: &StepId) -> Result<()> {
        let planned = state.plan().step(step).ok_or_else(|| {
            let ids: Vec<&str> = state.plan().steps.iter().map(|s| s.id.as_str()).collect();
            Error::invalid(format!("run {} has no step {step}", state.run))
                .hint(format!("its steps: {}", ids.join(", ")))
        })?;
        if planned.kind == crate::plan::GATE {
            return Err(Error::refused(format!(
                "{step} is the question itself: it is answered, not skipped"
            ))
            .hint(format!(
                "`maip-dr resume {} --yes` says yes, `decide {} abandon` gives the run up",
                state.run, state.run
            )));
        }
        let guards = ancestors(&state.plan().steps)?;
        let dns = state.plan().steps.iter().find(|s| s.kind == "dns.switch" && guards[&s.id].contains(step));
        let Some(dns) = dns else { return Ok(()) };
        let world = self.world_named(&state.start.world, &state.start.topology).await?;
        let topology = Arc::new(state.start.topology.clone());
        let built = self.registry.build(&planned.kind, &planned.with, &topology)?;
        let outputs = state
            .plan()
            .steps
            .iter()
            .filter(|s| matches!(state.steps[&s.id].phase, crate::engine::state::Phase::Succeeded))
            .map(|s| (s.id.clone(), (s.kind.clone(), state.steps[&s.id].output.clone())))
            .collect();
        let cx = StepCtx {
            world: world.clone(),
            topology,
            run: state.run.clone(),
            step: step.clone(),
            impact_at: state.start.impact_at,
            accepted: state.accepted.clone(),
            began: world.clock.now(),
            started: state.steps[step]
                .called
                .clone()
                .map(|(at, before)| crate::step::StartedAt { at, before }),
            outputs: Arc::new(outputs),
            notes: Arc::new(|_, _| {}),
        };
        let seen = on_clock(&world, async { built.observe(&cx).await }).await;
        match seen {
            Ok(Observed::Done(_)) => Ok(()),
            other => {
                let found = match other {
                    Ok(Observed::Underway(note)) => note,
                    Ok(Observed::Failed(e) | Observed::Unknown(e)) | Err(e) => e.one_line(),
                    _ => "it is not done".to_owned(),
                };
                Err(Error::refused(format!(
                    "{step} cannot be skipped: {} depends on it, and {found}",
                    dns.id
                ))
                .hint(format!("mend it and `maip-dr decide {} retry {step}`, or abandon the run", state.run)))
            }
        }
    }

    /// The run that `name` means: an id, a unique beginning of one, or `last`.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` when several begin so.
    pub async fn find(&self, name: &str) -> Result<RunId> {
        let runs = self.in_order().await?;
        if name == "last" {
            return runs.last().cloned().ok_or_else(|| {
                Error::not_found("there is no run yet")
                    .hint(format!("runs are looked for {}", self.journals().describe()))
            });
        }
        let mut matching: Vec<&RunId> = runs.iter().filter(|r| r.as_str().starts_with(name)).collect();
        match (matching.len(), matching.pop()) {
            (1, Some(run)) => Ok(run.clone()),
            (0, _) | (_, None) => Err(Error::not_found(format!("there is no run {name}")).hint(format!(
                "`maip-dr runs` lists them; they are looked for {}",
                self.journals().describe()
            ))),
            (n, Some(last)) => Err(Error::invalid(format!("{n} runs begin with {name}, {last} among them"))
                .hint("write more of the id")),
        }
    }

    /// Every run, oldest first. A journal that cannot be read is a row with a problem.
    ///
    /// # Errors
    /// When the place of the journals cannot be read.
    pub async fn runs(&self) -> Result<Vec<RunRow>> {
        let journals = self.journals();
        let mut rows = Vec::new();
        for run in self.in_order().await? {
            rows.push(match journals.read(&run).await.and_then(|records| RunState::fold(&records)) {
                Ok(state) => RunRow {
                    driven: self.is_driven(&run),
                    procedure: state.start.procedure.clone(),
                    outcome: state.outcome(),
                    started_at: state.started_at,
                    world: state.start.world.clone(),
                    problem: None,
                    run,
                },
                Err(error) => RunRow {
                    driven: false,
                    procedure: "unknown".to_owned(),
                    outcome: None,
                    started_at: Timestamp::UNIX_EPOCH,
                    world: "unknown".to_owned(),
                    problem: Some(error.one_line()),
                    run,
                },
            });
        }
        Ok(rows)
    }

    /// How a run stands, with its records.
    ///
    /// # Errors
    /// `NotFound`, `Corrupt`.
    pub async fn status(&self, run: &str) -> Result<(RunState, Vec<Record>)> {
        let id = self.find(run).await?;
        let records = self.journals().read(&id).await?;
        Ok((RunState::fold(&records)?, records))
    }

    /// Whether a live process on this machine drives `run`.
    pub fn is_driven(&self, run: &RunId) -> bool {
        let path = self.runs_folder().join(run.as_str()).join("journal.jsonl");
        File::open(path).is_ok_and(|file| file.try_lock_shared().is_err())
    }

    /// One active run an application and state directory.
    async fn lock(
        &self,
        application: &str,
        world: &str,
        own: Option<&RunId>,
        journals: &dyn Journals,
    ) -> Result<Option<File>> {
        if self.journals.is_some() {
            return Ok(None);
        }
        let folder = self.state.join("locks");
        crate::journal::private_folder(&folder)?;
        let path = folder.join(format!("{application}.{world}.lock"));
        let file = crate::journal::private_file()
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| crate::journal::io_error("open", &path, &e))?;
        let held_by = std::fs::read_to_string(&path).unwrap_or_default().trim().to_owned();
        if file.try_lock().is_err() {
            return Err(Error::conflict(format!(
                "run {held_by} of {application} is being driven by another process"
            ))
            .hint(format!("watch it with `maip-dr status {held_by}`"))
            .with("run", held_by));
        }
        if !held_by.is_empty() && own.is_none_or(|own| own.as_str() != held_by) {
            let other = RunId::new(held_by);
            if let Ok(records) = journals.read(&other).await {
                let state = RunState::fold(&records)?;
                if state.ended.is_none() {
                    let how = if state.held.is_some() { "is held" } else { "was interrupted" };
                    return Err(Error::conflict(format!("run {other} of {application} {how} and has not ended"))
                        .hint(format!("go on with `maip-dr resume {other}`, or give it up with `maip-dr decide {other} abandon`"))
                        .with("run", other));
                }
            }
        }
        Ok(Some(file))
    }

    fn note_in_lock(&self, lock: Option<&File>, run: &RunId) -> Result<()> {
        use std::io::{Seek, Write};
        let Some(mut file) = lock else { return Ok(()) };
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| file.write_all(run.as_str().as_bytes()))
            .and_then(|()| file.sync_data())
            .map_err(|e| crate::journal::io_error("write", &self.state.join("locks"), &e))
    }

    /// The state directory.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }
}

/// Who we are where `plan` changes something, if it changes anything: another account than the topology says is
/// refused. The Region that is left may be silent; its account is looked at by the steps that go there.
async fn who_we_are(world: &World, topology: &Topology, plan: &Plan) -> Result<Option<Caller>> {
    let changed = plan.steps.iter().filter(|s| s.mutates()).filter_map(|s| s.region.as_ref());
    let regions: std::collections::BTreeSet<&RegionId> =
        plan.to.iter().chain(changed).filter(|region| plan.from.as_ref() != Some(*region)).collect();
    let mut caller = None;
    for region in regions {
        let found = world.region(region)?.identity().caller().await;
        let found = found.map_err(|e| e.context(format!("cannot tell who we are in {region}")))?;
        check_account(topology, region, &found)?;
        if caller.is_none() || plan.to.as_ref() == Some(region) {
            caller = Some(found);
        }
    }
    Ok(caller)
}

/// Runs `work` on the world's clock, so that simulated waits pass.
///
/// # Errors
/// Those of `work`.
pub async fn on_clock<T: Send>(world: &World, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
    let mut result = Err(Error::internal("the work did not end"));
    {
        let slot = &mut result;
        world.clock.drive(Box::pin(async move { *slot = work.await })).await;
    }
    result
}

/// When a decision is made: now; in the sandbox, whose time stands still, with the last record.
fn decided_at(state: &RunState, records: &[Record]) -> Timestamp {
    let last = records.last().map_or(state.started_at, |record| record.at);
    if state.start.world == "aws" {
        let now = Timestamp::from_millisecond(SystemClock.now().as_millisecond()).unwrap_or_default();
        now.max(last)
    } else {
        last
    }
}

async fn append(
    journal: &mut dyn Journal,
    state: &mut RunState,
    at: Timestamp,
    step: Option<&StepId>,
    event: Event,
) -> Result<()> {
    let planned = step.and_then(|id| state.plan().step(id)).cloned();
    if let (Some(step), None) = (step, &planned) {
        return Err(Error::invalid(format!("run {} has no step {step}", state.run)));
    }
    let mut record = Record {
        run: state.run.clone(),
        seq: state.next_seq,
        epoch: state.epoch,
        at,
        step: step.cloned(),
        kind: planned.as_ref().map(|s| s.kind.clone()),
        region: planned.and_then(|s| s.region),
        event,
        prev: state.last_hash.clone(),
        hash: String::new(),
    };
    let line = record.seal()?;
    state.clone().apply(&record)?;
    journal.append(&record, &line).await?;
    state.apply(&record)
}

/// Twenty bits that two runs of the same minute will hardly share.
fn random() -> u32 {
    use std::hash::{BuildHasher, Hasher, RandomState};
    (RandomState::new().build_hasher().finish() & 0xf_ffff) as u32
}

/// The JSON of `status`.
pub fn status_json(state: &RunState, driven: bool) -> Value {
    let steps: Vec<Value> = state
        .plan()
        .steps
        .iter()
        .map(|s| {
            let step = &state.steps[&s.id];
            json!({
                "id": s.id, "kind": s.kind, "phase": phase_word(&step.phase),
                "started_at": step.started_at.map(millis::text), "ended_at": step.ended_at.map(millis::text),
            })
        })
        .collect();
    json!({
        "run": state.run, "procedure": state.start.procedure, "outcome": state.outcome(),
        "started_at": millis::text(state.started_at), "world": state.start.world, "driven": driven, "steps": steps,
        "waiting_for": state.held.as_ref().map(|(reason, needs)| json!({
            "reason": reason, "option": needs.as_ref().map(Risk::option) })),
    })
}

/// The stable word for where a step stands.
pub fn phase_word(phase: &crate::engine::state::Phase) -> &'static str {
    use crate::engine::state::Phase;
    match phase {
        Phase::Pending => "pending",
        Phase::Started => "started",
        Phase::Succeeded => "succeeded",
        Phase::Failed(e) if e.needs.is_some() => "waiting",
        Phase::Failed(_) => "failed",
        Phase::Skipped => "skipped",
        Phase::Undoing => "undoing",
        Phase::Undone => "undone",
        Phase::UndoFailed(_) => "undo_failed",
    }
}
