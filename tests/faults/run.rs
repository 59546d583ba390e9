//! One run of a workload that a seed repeats, on a disk that fails or loses power.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fastsession::{Clock, Error, RedbStore, SessionStore, Timestamp};
use tokio::time::timeout;

use crate::disk::{Call, Disk, Fault, Plan};
use crate::ledger::Ledger;
use crate::model::{self, Action, Lane, World};
use crate::random::Random;
use crate::table::{Fate, Table};

pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// A store's own deadline here; an answer that takes longer was never going to come.
pub(crate) const WAIT: Duration = Duration::from_secs(4);
const HANG: Duration = Duration::from_secs(20);
/// How long service may take to come back once the fault is gone.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(5);

/// How the store is opened, and what is done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) exclusive: bool,
    pub(crate) rounds: u64,
    /// Whether another process has the file open too, and reads.
    pub(crate) neighbour: bool,
}

impl Scenario {
    pub(crate) fn open(&self, disk: &Disk, clock: &Clock) -> fastsession::Result<RedbStore> {
        let disk = disk.clone();
        let builder = RedbStore::builder("memory")
            .storage(move || Ok(disk.handle()))
            .clock(clock.clone())
            .cache_size([0, 64 << 10, 16 << 20][(self.seed % 3) as usize])
            .keep_ended(Duration::from_secs(5))
            .wait(WAIT)
            .without_sweeping();
        if self.exclusive { builder.exclusive() } else { builder }.open()
    }
}

/// A power cut: what was left of the disk, and what was promised.
struct Cut {
    bytes: Vec<u8>,
    ledger: Ledger,
    at: Timestamp,
    /// How many writes it took with it.
    unsynced: usize,
}

struct Run {
    disk: Disk,
    clock: Clock,
    store: RedbStore,
    neighbour: Option<RedbStore>,
    lanes: Vec<Lane>,
    random: Random,
    ledger: Arc<Mutex<Ledger>>,
    table: Table,
}

impl Run {
    async fn new(scenario: Scenario) -> Self {
        let disk = Disk::new(fresh_file(scenario.exclusive));
        let clock = Clock::manual(START);
        let store = scenario.open(&disk, &clock).unwrap();
        let neighbour = scenario.neighbour.then(|| scenario.open(&disk, &clock).unwrap());
        let random = Random::new(scenario.seed);
        let lanes = if scenario.seed.is_multiple_of(2) { 1 } else { 3 };
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let world = model::read(&store, &clock, &World::default()).await.unwrap();
        ledger.lock().unwrap().world = world;
        let lanes = (1..=lanes).map(Lane::new).collect();
        let table = Table::default();
        Self { disk, clock, store, neighbour, lanes, random, ledger, table }
    }

    /// What is done at once in the next round.
    fn next(&mut self) -> Vec<Action> {
        let world = self.ledger.lock().unwrap().world.clone();
        let step = if self.random.below(8) == 0 { 8 } else { 1 };
        self.clock.advance(Duration::from_secs(step));
        if self.random.below(6) == 0 {
            return vec![Action::global(&world, &mut self.random)];
        }
        self.lanes.iter_mut().map(|lane| lane.next(&world, &mut self.random)).collect()
    }

    /// One round. Returns the errors.
    async fn round(&mut self) -> Vec<Error> {
        let actions = self.next();
        self.carry_out(actions).await
    }

    /// Does `actions` at once, each in a task of its own, and writes down the answers.
    async fn carry_out(&mut self, actions: Vec<Action>) -> Vec<Error> {
        let unanswered = {
            let mut ledger = self.ledger.lock().unwrap();
            let before = ledger.asked.len();
            for action in &actions {
                ledger.ask(action);
            }
            before
        };
        let start = |action: &Action| {
            let (action, store, clock) = (action.clone(), self.store.clone(), self.clock.clone());
            tokio::spawn(async move {
                timeout(HANG, action.run(&store, &clock)).await.expect("no answer, ever")
            })
        };
        let running: Vec<_> = actions.iter().map(start).collect();
        let mut answers = Vec::new();
        for running in running {
            let answer = running.await;
            answers.push(answer.unwrap_or_else(|e| std::panic::resume_unwind(e.into_panic())));
        }
        let mut ledger = self.ledger.lock().unwrap();
        ledger.asked.truncate(unanswered);
        for (action, _) in actions.iter().zip(&answers).filter(|(_, answer)| answer.is_ok()) {
            ledger.acknowledge(action);
        }
        let mut errors = Vec::new();
        for (action, answer) in actions.iter().zip(answers) {
            let Err(error) = answer else { continue };
            if model::may_have_landed(&error) {
                ledger.ask(action);
            } else {
                // It was refused, and will be looked for in vain.
                self.table.pending(action.kind(), Fate::Absent);
            }
            errors.push(error);
        }
        errors
    }

    /// Sign-ins that are asked for while the fault lasts.
    async fn ask_in_vain(&mut self, times: u64) {
        for _ in 0..times {
            let action = self.lanes[0].create();
            self.carry_out(vec![action]).await;
        }
    }

    /// Waits until the store serves, and finds out what became of what had no answer.
    async fn come_back(&mut self) -> Result<(), String> {
        let since = Instant::now();
        let ledger = self.ledger.lock().unwrap().clone();
        let found = loop {
            match model::read(&self.store, &self.clock, &ledger.known()).await {
                Ok(found) => break found,
                Err(error) if since.elapsed() > BACK_WITHIN => {
                    return Err(format!("not back within {BACK_WITHIN:?}: {error:?}"));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        let world = ledger.settle(&found, &mut self.table)?;
        self.ask_neighbour(&found).await?;
        *self.ledger.lock().unwrap() = ledger.settled(world);
        Ok(())
    }
}

impl Run {
    /// The other process sees the same.
    async fn ask_neighbour(&mut self, found: &World) -> Result<(), String> {
        let Some(neighbour) = &self.neighbour else { return Ok(()) };
        // What it saw before is leased for 5 ms.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let other = model::read(neighbour, &self.clock, found).await;
        let other = other.map_err(|error| format!("a neighbour cannot read: {error:?}"))?;
        let ledger = self.ledger.lock().unwrap().settled(found.clone());
        let settled = ledger.settle(&other, &mut self.table);
        settled.map(drop).map_err(|why| format!("a neighbour sees another state: {why}"))
    }
}

/// A complete file, made by the library itself.
pub(crate) fn fresh_file(exclusive: bool) -> Vec<u8> {
    static FILES: [std::sync::OnceLock<Vec<u8>>; 2] = [const { std::sync::OnceLock::new() }; 2];
    let make = || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sessions.redb");
        let builder = RedbStore::builder(&path);
        drop(if exclusive { builder.exclusive() } else { builder }.open().unwrap());
        // Closed by the store's own thread.
        while RedbStore::builder(&path).exclusive().open().is_err() {}
        std::fs::read(&path).unwrap()
    };
    FILES[usize::from(exclusive)].get_or_init(make).clone()
}

/// How many calls the workload makes without a fault.
pub(crate) async fn calls(scenario: Scenario) -> u64 {
    let mut run = Run::new(scenario).await;
    for _ in 0..scenario.rounds {
        let errors = run.round().await;
        assert!(errors.is_empty(), "{scenario:?}: {errors:?}");
    }
    run.store.close().await.unwrap();
    run.disk.calls()
}

/// Cuts the power at calls that the seed chooses, each with unsynced writes pending, and opens what
/// is left. What was found is in `table`, however that ends.
pub(crate) async fn power_cuts(
    scenario: Scenario,
    at_most: usize,
    table: &mut Table,
) -> Result<(), String> {
    let mut run = Run::new(scenario).await;
    let cuts = Arc::new(Mutex::new(Vec::new()));
    {
        let cuts = cuts.clone();
        let (ledger, clock) = (run.ledger.clone(), run.clock.clone());
        let mut random = Random::new(scenario.seed ^ 0xc07);
        run.disk.watch(move |call, moment| {
            let chosen = call != Call::Read && moment.unsynced() > 0 && random.below(16) == 0;
            let mut cuts = cuts.lock().unwrap();
            if chosen && cuts.len() < at_most {
                let ledger = ledger.lock().unwrap().clone();
                let bytes = moment.after_power_cut(&mut random);
                let unsynced = moment.unsynced();
                cuts.push(Cut { bytes, ledger, at: clock.now(), unsynced });
            }
        });
    }
    for round in 0..scenario.rounds {
        let errors = run.round().await;
        if !errors.is_empty() {
            return Err(format!("round {round}: {errors:?}"));
        }
    }
    run.store.close().await.map_err(|error| format!("close: {error:?}"))?;
    run.disk.watch(|_, _| {});
    let mut random = Random::new(scenario.seed ^ 0x4ec);
    let cuts = std::mem::take(&mut *cuts.lock().unwrap());
    for (number, cut) in cuts.iter().enumerate() {
        if cut.unsynced == 0 {
            return Err(format!("nothing was pending at cut {number}"));
        }
        table.events += 1;
        table.unsynced(cut.unsynced as u64);
        check_cut(scenario, cut, &mut random, table).await.map_err(|why| {
            let kept = std::env::temp_dir().join(format!("cut-{}-{number}", scenario.seed));
            let _ = std::fs::write(&kept, &cut.bytes);
            format!("cut {number}, kept as {}: {why}", kept.display())
        })?;
    }
    Ok(())
}

/// Opens what a cut left, one time in three after cutting the power once more while that is being
/// opened.
async fn check_cut(
    scenario: Scenario,
    cut: &Cut,
    random: &mut Random,
    table: &mut Table,
) -> Result<(), String> {
    let disk = Disk::new(cut.bytes.clone());
    if random.below(3) != 0 {
        return open_and_settle(scenario, &disk, cut, table).await;
    }
    let again = Arc::new(Mutex::new(None));
    {
        let again = again.clone();
        let mut random = random.clone();
        disk.watch(move |call, moment| {
            if call != Call::Read && moment.unsynced() > 0 && random.below(3) == 0 {
                again.lock().unwrap().get_or_insert_with(|| moment.after_power_cut(&mut random));
            }
        });
    }
    let opened = open_and_settle(scenario, &disk, cut, &mut Table::default()).await;
    disk.watch(|_, _| {});
    let again = again.lock().unwrap().take();
    let Some(bytes) = again else {
        return open_and_settle(scenario, &Disk::new(cut.bytes.clone()), cut, table).await;
    };
    opened?;
    table.in_recovery += 1;
    let settled = open_and_settle(scenario, &Disk::new(bytes), cut, table).await;
    settled.map_err(|why| format!("cut again in recovery: {why}"))
}

async fn open_and_settle(
    scenario: Scenario,
    disk: &Disk,
    cut: &Cut,
    table: &mut Table,
) -> Result<(), String> {
    let clock = Clock::manual(cut.at);
    let since = Instant::now();
    let store = scenario.open(disk, &clock).map_err(|error| format!("does not open: {error:?}"))?;
    table.opened_in(since.elapsed());
    let found = model::read(&store, &clock, &cut.ledger.known()).await;
    let found = found.map_err(|error| format!("cannot be read: {error:?}"))?;
    let world = cut.ledger.settle(&found, table)?;
    // It can be written to, and what is over can be removed.
    Action::Purge.run(&store, &clock).await.map_err(|error| format!("purge: {error:?}"))?;
    let found = model::read(&store, &clock, &world).await.map_err(|e| format!("{e:?}"))?;
    cut.ledger.settled(world).settle(&found, table)?;
    store.close().await.map_err(|error| format!("close: {error:?}"))
}

/// Lets a call fail and then goes on, checking every answer. True if the call was reached.
pub(crate) async fn fault(
    scenario: Scenario,
    plan: Plan,
    table: &mut Table,
) -> Result<bool, String> {
    let mut run = Run::new(scenario).await;
    run.disk.plan(plan);
    let result = run.with_fault(scenario, plan).await;
    table.merge(&run.table);
    let hit = run.disk.failed() > 0;
    table.events += u64::from(hit);
    let cut = result?;
    check_cut(scenario, &cut, &mut run.random, table).await?;
    Ok(hit)
}

impl Run {
    fn cut_now(&mut self) -> Cut {
        let bytes = self.disk.after_power_cut(&mut self.random);
        let ledger = self.ledger.lock().unwrap().clone();
        Cut { bytes, ledger, at: self.clock.now(), unsynced: 0 }
    }

    /// The rounds of a scenario with a fault in them, and a power cut at the end.
    async fn with_fault(&mut self, scenario: Scenario, plan: Plan) -> Result<Cut, String> {
        for round in 0..scenario.rounds {
            let errors = self.round().await;
            if errors.is_empty() {
                continue;
            }
            if plan.lasting {
                let times = self.random.below(4);
                self.ask_in_vain(times).await;
            }
            self.disk.heal();
            self.come_back().await.map_err(|why| format!("round {round}, {errors:?}: {why}"))?;
            // What is read from now on, acknowledged or not, no power cut takes away.
            let cut = self.cut_now();
            let left = Disk::new(cut.bytes.clone());
            let kept = open_and_settle(scenario, &left, &cut, &mut self.table);
            kept.await.map_err(|why| format!("round {round}, {errors:?}, then a cut: {why}"))?;
        }
        self.disk.heal();
        self.come_back().await.map_err(|why| format!("at the end: {why}"))?;
        let cut = self.cut_now();
        self.store.close().await.map_err(|error| format!("close: {error:?}"))?;
        if let Some(neighbour) = &self.neighbour {
            neighbour.close().await.map_err(|error| format!("a neighbour's close: {error:?}"))?;
        }
        let most = 1 + u64::from(scenario.neighbour);
        // After a panic, whoever still reads from the handle keeps it.
        if plan.fault != Fault::Panic && (self.disk.open(), self.disk.most_open()) != (0, most) {
            return Err("a second handle was open while the first one was".into());
        }
        Ok(cut)
    }
}

/// Runs a scenario on threads of its own; a panic says which one it was.
pub(crate) fn checked<T>(scenario: Scenario, run: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(run)));
    result.unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default();
        println!("{scenario:?}: panicked: {said}");
        println!("before that, in the store's threads: {:#?}", CAUGHT.lock().unwrap());
        std::panic::resume_unwind(panic)
    })
}

/// What the store's threads panicked of, all that do not say [`PANIC`](crate::disk::PANIC): of use
/// if a test fails.
static CAUGHT: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// What the store's threads catch is not worth printing.
pub(crate) fn quieten_engine() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let name = std::thread::current().name().unwrap_or_default().to_owned();
            let said = panic.to_string();
            if !name.starts_with("fastsession-") {
                print(panic);
            } else if !said.contains(crate::disk::PANIC) {
                CAUGHT.lock().unwrap().push(said);
            }
        }));
    });
}

/// All faults, once and lasting.
pub(crate) const PLANS: [(Fault, bool); 11] = [
    (Fault::Io, false),
    (Fault::Io, true),
    (Fault::NoSpace, false),
    (Fault::NoSpace, true),
    (Fault::NoGrowth, true),
    (Fault::Read, false),
    (Fault::Read, true),
    (Fault::Sync, false),
    (Fault::Sync, true),
    (Fault::Panic, false),
    (Fault::Panic, true),
];
