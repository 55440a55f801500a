//! `kill -9` of the daemon at seeded moments: nothing recorded is done again, nothing is left, nothing is lost.
//!
//! `AEGIS_CRASH_KILLS` sets how often; `AEGIS_CRASH_SEED` replays a sweep.

mod judge;
mod leftovers;
mod open;
mod seed;
mod story;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use aegis_e2e::Node;
use serde_json::json;

use crate::manifests::worker;
use crate::observe::can_run;
use judge::{Figures, Kill};
pub(crate) use leftovers::Marks;
use leftovers::Process;
use seed::Seeded;
pub(crate) use seed::number;
use story::FarSide;

/// Kills unless the environment says otherwise.
const KILLS: u64 = 20;
/// Runs that are under way at once.
const RUNS_AT_ONCE: usize = 4;
/// Kills after which a batch of runs is left in peace until it is over.
const KILLS_PER_BATCH: u32 = 7;
/// Random kills come within this time.
const TYPICAL: Duration = Duration::from_millis(1_200);
/// How long something the sweep waits for may take before it kills anyway.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what a run leaves may take to go once it is over, on a machine that is busy with other tests.
const LEAVING_PATIENCE: Duration = Duration::from_secs(30);

/// When the daemon is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// After a random time.
    Random,
    /// A model has a request and has not answered.
    ModelThinks,
    /// A model has just answered, and a tool is about to begin, begins or has ended.
    ToolBegins,
    /// A command has had its effect and has not ended.
    CommandRuns,
    /// The daemon comes up.
    Starting,
}

struct Sweep {
    node: Node,
    far_side: FarSide,
    marks: Marks,
    random: Seeded,
    tag: String,
    runs: Vec<(String, String)>,
    kills: Vec<Kill>,
    figures: Figures,
    seen: Seen,
}

/// What there was just before and after the kills: without it, finding nothing later would mean nothing.
#[derive(Debug, Default)]
struct Seen {
    processes: usize,
    mounts: usize,
    groups: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_loses_nothing_and_repeats_nothing() {
    let seed = seed::seed();
    let kills = usize::try_from(number("AEGIS_CRASH_KILLS").unwrap_or(KILLS)).expect("a number of kills");
    let _told = TellSeed(seed);
    let begun = Instant::now();
    let mut sweep = Sweep::start(seed).await;
    if !can_run(&sweep.node, &worker("worker", story::VALIDATION), "kill_9_loses_nothing_and_repeats_nothing")
    {
        return;
    }
    while sweep.kills.len() < kills {
        sweep.batch(kills).await;
    }
    let Sweep { figures, seen, kills, .. } = &sweep;
    tell(&format!(
        "crash: seed {seed}, {} kills in {} s; {figures:?}; at the kills {seen:?}",
        kills.len(),
        begun.elapsed().as_secs()
    ));
    assert!(seen.processes > 0 && seen.mounts > 0, "the kills met no live sandbox: {seen:?}");
    assert!(figures.asked_again > 0, "no kill came between a request and its answer: {figures:?}");
    assert!(figures.interrupted > 0, "no kill came while a command ran: {figures:?}");
}

impl Sweep {
    async fn start(seed: u64) -> Self {
        let tag = format!("crash-{}-{seed}-", std::process::id());
        let far_side = FarSide::default();
        let node = Node::with(far_side.script(&tag)).start().await;
        node.deploy(&worker("worker", story::VALIDATION));
        Self {
            marks: Marks::of(node.home(), &tag),
            node,
            far_side,
            random: Seeded::new(seed),
            tag,
            runs: Vec::new(),
            kills: Vec::new(),
            figures: Figures::default(),
            seen: Seen::default(),
        }
    }

    /// Starts some runs, kills the daemon over and over, and judges the runs once they are over.
    async fn batch(&mut self, kills: usize) {
        let first = self.runs.len();
        for number in first..first + RUNS_AT_ONCE {
            let name = format!("{}{number}", self.tag);
            let id = self.node.execute("worker", &json!({"run": name}).to_string());
            self.runs.push((name, id));
        }
        for _ in 0..KILLS_PER_BATCH {
            if self.kills.len() == kills {
                break;
            }
            let moment = self.moment();
            if !self.await_moment(moment, first).await {
                break;
            }
            self.kill_and_restart(moment);
        }
        for (name, id) in &self.runs[first..] {
            self.node.wait(id);
            let asked = self.far_side.asked();
            judge::judge(&self.node, name, id, &asked, &self.kills, &mut self.figures);
        }
        self.nothing_is_left();
    }

    fn moment(&mut self) -> Moment {
        match self.random.next() % 8 {
            0..=3 => Moment::Random,
            4 => Moment::ModelThinks,
            5 => Moment::ToolBegins,
            6 => Moment::CommandRuns,
            _ => Moment::Starting,
        }
    }

    /// Waits for the moment. `false` if all runs are over.
    async fn await_moment(&mut self, moment: Moment, first: usize) -> bool {
        match moment {
            Moment::Random => tokio::time::sleep(self.random.time(TYPICAL)).await,
            Moment::ModelThinks | Moment::ToolBegins => {
                let asked = self.node.model.requests().len();
                self.node.model.wait_for_requests(asked + 1, PATIENCE).await;
                if matches!(moment, Moment::ToolBegins) {
                    tokio::time::sleep(story::THINKING + self.random.time(story::THINKING)).await;
                }
            }
            Moment::CommandRuns => {
                let lines = |sweep: &Self| -> usize {
                    let files = sweep.runs[first..].iter().map(|(name, _)| story::nonces(name));
                    files.map(|name| story::volume_file(sweep.node.home(), &name).len()).sum()
                };
                let (before, begun) = (lines(self), Instant::now());
                while lines(self) == before && begun.elapsed() < PATIENCE {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Moment::Starting => {
                tokio::time::sleep(self.random.time(TYPICAL / 4)).await;
                self.kill();
                self.respawn();
                let soon = self.random.time(Duration::from_millis(150));
                tokio::time::sleep(soon).await;
            }
        }
        // A daemon that is only just starting cannot be asked.
        matches!(moment, Moment::Starting) || {
            let over = |id: &str| self.node.status(id)["status"] != "running";
            !self.runs[first..].iter().all(|(_, id)| over(id))
        }
    }

    fn kill(&mut self) {
        let from = Instant::now();
        self.node.kill_daemon();
        self.kills.push(Kill { from, until: from });
    }

    fn respawn(&mut self) {
        if let Some(kill) = self.kills.last_mut() {
            kill.until = Instant::now();
        }
        self.node.spawn_daemon();
    }

    fn kill_and_restart(&mut self, moment: Moment) {
        // Before the kill: the kernel ends a sandbox with its daemon, most often before anything can look.
        let mut former = self.marks.look();
        self.kill();
        former.join(self.marks.look());
        self.seen.processes += former.processes.len();
        self.seen.mounts += former.mounts.len();
        self.seen.groups += former.groups.len();
        if let Some(kill) = self.kills.last_mut() {
            kill.until = Instant::now();
        }
        self.node.start_daemon();
        let now = self.marks.look();
        let alive: BTreeSet<&Process> = former.processes.intersection(&now.processes).collect();
        assert!(alive.is_empty(), "{moment:?}: of a former sandbox: {alive:?}");
        let mounted: BTreeSet<&String> = former.mounts.intersection(&now.mounts).collect();
        assert!(mounted.is_empty(), "{moment:?}: of a former daemon: {mounted:?}");
        let verified = self.node.run(&["audit", "verify"]).ok();
        assert!(verified.stdout.contains("whole"), "{moment:?}: {}", verified.stdout);
    }

    /// Once all runs are over, nothing of them is on the machine.
    fn nothing_is_left(&self) {
        let begun = Instant::now();
        loop {
            let left = self.marks.look();
            if left.is_empty() {
                return;
            }
            // The last event of a run comes just before its volumes are unmounted.
            assert!(begun.elapsed() < LEAVING_PATIENCE, "left once the runs are over: {left:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Says, if the test fails, how to replay it.
struct TellSeed(u64);

impl Drop for TellSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tell(&format!("replay with AEGIS_CRASH_SEED={}", self.0));
        }
    }
}

/// Figures of a sweep, and how to replay it.
pub(crate) fn tell(text: &str) {
    eprintln!("{text}");
}
