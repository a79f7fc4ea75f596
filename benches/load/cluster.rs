//! Several servers on one store: what the store, a delivery and a return cost, compared with one
//! server.
//!
//! Owns the list of these figures, how each is measured, and its goal. Must not know what is said
//! between servers and store. The invariant: as for one server, a message that is lost, duplicated or
//! out of order ends the benchmark; the members of a room are spread over all servers.
//!
//! Member 1 of each room is at the second server, member 2 at the third, and all others at the first,
//! which is measured. So the first server has as many members of each room as the server that it is
//! compared with, and hears of most messages from the store.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::attacks::{Attack, Attackers};
use crate::clients::{Clients, PATIENCE};
use crate::machine::{self, RealTime};
use crate::options::Options;
use crate::room::Room;
use crate::server::Server;
use crate::store::Store;
use crate::table::{Goal, Sample};
use crate::traffic::{self, Delivered, Load, Pace, Span, Traffic};
use crate::trials::{self, Both, Lab, Trial};

const NODES: usize = 3;

const TRIALS: &[Trial] = &[
    ("posts", |lab| posts(lab, POSTS, false, 25_000.0)),
    ("posts with nonces", |lab| posts(lab, POSTS_WITH_NONCES, true, 20_000.0)),
    ("latency", latency),
    ("1x100", |lab| {
        delivery(lab, ["1x100: CPU per delivery", "1x100: coalescing"], (1, 100, 300), 1.05)
    }),
    ("1x1000", |lab| {
        delivery(lab, ["1x1000: CPU per delivery", "1x1000: coalescing"], (1, 1000, 30), 1.05)
    }),
    ("100x10", |lab| {
        delivery(lab, ["100x10: CPU per delivery", "100x10: coalescing"], (100, 10, 2000), 1.1)
    }),
    ("1000x2", |lab| {
        delivery(lab, ["1000x2: CPU per delivery", "1000x2: coalescing"], (1000, 2, 4000), 1.25)
    }),
    ("store restarts", restart),
    ("server is killed", kill),
    ("idle", idle),
    ("attacks", attacks),
];

const POSTS: [&str; 2] = ["posts per second of the store's processor time", "posts per second"];
const POSTS_WITH_NONCES: [&str; 2] =
    ["posts with nonces per second of the store's processor time", "posts with nonces per second"];

pub fn measure(options: &Options) -> Result<()> {
    if !cfg!(feature = "cluster") && options.binary.as_os_str() == crate::server::BINARY {
        return Err("--cluster needs `cargo bench --features cluster`, or --server".into());
    }
    trials::run(options, TRIALS)
}

/// Servers on one store. The first one is measured.
struct Cluster {
    nodes: Vec<Server>,
    store: Store,
}

impl Cluster {
    fn start(lab: &Lab, nodes: usize, is_lasting: bool) -> Result<Cluster> {
        let others = lab.cores.map(machine::Cores::swapped);
        let store = Store::start(lab.options.store.as_deref(), others, is_lasting)?;
        let url = store.url();
        // A busy machine must not look like a store or a server that is gone.
        let flags = ["--cluster", &url, "--cluster-timeout", "20s", "--cluster-lease", "60s"];
        let flags = [&flags[..], &["--trusted-proxy", "127.0.0.1"]].concat();
        let nodes = (0..nodes).map(|number| {
            let cores = if number == 0 { lab.cores } else { others };
            let node = Server::release(&lab.options.binary, cores, &flags)?;
            await_store(&node)?;
            Ok(node)
        });
        Ok(Cluster { nodes: nodes.collect::<Result<_>>()?, store })
    }

    /// The server of a connection, in rooms of so many members.
    fn address(&self, connection: usize, members: usize) -> SocketAddr {
        let member = connection % members;
        self.nodes.get(member).unwrap_or(&self.nodes[0]).address
    }

    /// Connects all members. A member at each server sends.
    fn connect(&self, load: Load) -> Result<(Clients, Traffic)> {
        let paths = self.nodes[0].member_paths(load.rooms, load.members)?;
        let mut clients = Clients::spread(|number| self.address(number, load.members), &paths)?;
        clients.settle(QUIET)?;
        Ok((clients, Traffic::of_senders(load, self.nodes.len())))
    }
}

/// After the joins of all members nothing more is said.
const QUIET: Duration = Duration::from_millis(300);

fn await_store(node: &Server) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !node.has_store()? {
        if Instant::now() > end {
            return Err("the server does not reach its store".into());
        }
        thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// Many writers, and a listener at each server.
fn posts(
    lab: &Lab,
    figures: [&'static str; 2],
    has_nonces: bool,
    goal: f64,
) -> Result<Vec<Sample>> {
    let rooms = if lab.options.short { 20 } else { 200 };
    let load = Load { rooms, members: NODES, pace: Pace::Window(16) };
    let (delivered, disturbance) = lab.undisturbed(|| {
        let cluster = Cluster::start(lab, NODES, false)?;
        let (mut clients, mut traffic) = cluster.connect(load)?;
        traffic.has_nonces = has_nonces;
        let delivered = traffic.run(&mut clients, lab.span, Some(cluster.store.process()))?;
        let effort = delivered.effort;
        Ok((delivered, effort))
    })?;
    let posts = delivered.deliveries as f64 / NODES as f64;
    let cpu = delivered.effort.server.ok_or("the store's process isn't known")?.cpu;
    let sample = |figure, server, goal| {
        let disturbance = Some(disturbance);
        Sample { figure, unit: "posts", server, other: None, goal, disturbance }
    };
    let [by_cpu, by_time] = figures;
    Ok(vec![
        sample(by_cpu, posts / cpu.as_secs_f64(), Goal::AtLeast(goal)),
        sample(by_time, posts / delivered.effort.took.as_secs_f64(), Goal::None),
    ])
}

/// The time from when a message is due until the other member, at another server, has received it.
fn latency(lab: &Lab) -> Result<Vec<Sample>> {
    let load = Load { rooms: 10, members: 2, pace: Pace::PerSecond(500) };
    let _real_time = RealTime::begin(None);
    let measure = |(mut clients, mut traffic): (Clients, Traffic), process| {
        traffic.others_only = true;
        let delivered = traffic.run(&mut clients, lab.span, process)?;
        let effort = delivered.effort;
        Result::Ok((delivered, effort))
    };
    let Both { server, other, disturbance } = lab.both(
        || {
            let cluster = Cluster::start(lab, 2, false)?;
            measure(cluster.connect(load)?, cluster.nodes[0].process)
        },
        || {
            let server = lab.release(&[])?;
            measure(Traffic::connect(&server, load)?, server.process)
        },
    )?;
    let sample = |figure, share, more_max| Sample {
        figure,
        unit: "µs",
        server: server.latency_micros(share),
        other: Some(other.latency_micros(share)),
        goal: Goal::MoreAtMost(more_max),
        disturbance: Some(disturbance),
    };
    Ok(vec![
        sample("500 messages/s, heard at another server: p50", 0.50, 400.0),
        sample("500 messages/s, heard at another server: p99", 0.99, 2000.0),
    ])
}

/// The length of a turn, and of the warm-up before it.
const TURN: Span =
    Span { warm_up: Duration::from_millis(50), measured: Duration::from_millis(250) };

/// The processor time of the first server, which has `members` of each room, as the other has. At a
/// fixed rate, because at full speed the store and the other servers, which have the generator's core,
/// would make the first one wait, so that it could coalesce less than a server alone.
///
/// Both take turns, because what else the machine does changes from second to second, and so affects both
/// alike. The generator often waits for its core, but that only delays messages.
fn delivery(
    lab: &Lab,
    [figure, coalescing]: [&'static str; 2],
    (rooms, members, rate): (usize, usize, u32),
    ratio_max: f64,
) -> Result<Vec<Sample>> {
    let _real_time = RealTime::begin(None);
    let alone = Load { rooms, members, pace: Pace::PerSecond(rate) };
    let load = Load { members: members + NODES - 1, ..alone };
    let cluster = Cluster::start(lab, NODES, false)?;
    let (mut clients, mut traffic) = cluster.connect(load)?;
    let single = lab.release(&[])?;
    let (mut clients_alone, mut traffic_alone) = Traffic::connect(&single, alone)?;
    let mut turn = || {
        Result::Ok((
            traffic.run(&mut clients, TURN, cluster.nodes[0].process)?,
            traffic_alone.run(&mut clients_alone, TURN, single.process)?,
        ))
    };
    let (mut server, mut other) = turn()?;
    while other.effort.took < lab.span.measured {
        let later = turn()?;
        (server, other) = (server.plus(later.0), other.plus(later.1));
    }
    let disturbance = server.effort.server_disturbance().max(other.effort.server_disturbance());
    // The other servers have a member each.
    let all = load.members as f64 / members as f64;
    let micros = server.cpu_micros_per_delivery().ok_or("the server's process isn't known")?;
    Ok(vec![
        Sample {
            figure,
            unit: "µs",
            server: micros * all,
            other: other.cpu_micros_per_delivery(),
            goal: Goal::RatioAtMost(ratio_max),
            disturbance: Some(disturbance),
        },
        Sample {
            figure: coalescing,
            unit: "deliveries per read",
            server: server.deliveries_per_read(),
            other: Some(other.deliveries_per_read()),
            goal: Goal::None,
            disturbance: Some(disturbance),
        },
    ])
}

/// The store is killed and started again, with its append-only file. Counts from its first answer
/// until a message of each server has been heard by all in each room.
fn restart(lab: &Lab) -> Result<Vec<Sample>> {
    let (rooms, figure) = match lab.options.short {
        true => (50, "50 rooms in use again after a restart of the store"),
        false => (1000, "1000 rooms in use again after a restart of the store"),
    };
    let mut cluster = Cluster::start(lab, NODES, true)?;
    let (mut clients, mut traffic) =
        cluster.connect(Load { rooms, members: NODES, pace: Pace::Window(0) })?;
    for room in 0..rooms {
        traffic.send(&mut clients, room)?;
    }
    traffic.finish(&mut clients)?;
    cluster.store.restart()?;
    let began = Instant::now();
    // By connection: the message under way.
    let mut said = vec![0; rooms * NODES];
    for room in (0..rooms).flat_map(|room| [room; NODES]) {
        let (connection, number) = traffic.send(&mut clients, room)?;
        said[connection] = number;
    }
    let (mut refused, mut again) = (Vec::new(), began + PAUSE);
    while !traffic.is_complete() {
        if began.elapsed() > PATIENCE {
            return Err("not all rooms are in use again".into());
        }
        clients.listen(PAUSE / 10, |connection, text, at| {
            if contains(text, br#""type":"refused""#) {
                refused.push(connection);
            }
            nobody_leaves(text)?;
            traffic.on_text(connection, text, at)
        })?;
        if Instant::now() > again {
            for connection in refused.drain(..) {
                traffic.send_again(&mut clients, connection, said[connection])?;
            }
            again = Instant::now() + PAUSE;
        }
    }
    let took = began.elapsed();
    traffic.finish(&mut clients)?;
    Ok(vec![within(figure, took, Duration::from_secs(2))])
}

/// Messages that were refused are sent again after this time.
const PAUSE: Duration = Duration::from_millis(50);

fn within(figure: &'static str, took: Duration, most: Duration) -> Sample {
    let goal = Goal::AtMost(most.as_secs_f64());
    let server = took.as_secs_f64();
    Sample { figure, unit: "s", server, other: None, goal, disturbance: None }
}

fn contains(event: &[u8], what: &[u8]) -> bool {
    event.windows(what.len()).any(|some| some == what)
}

fn nobody_leaves(event: &[u8]) -> Result<()> {
    match contains(event, br#""type":"user_left""#) {
        true => Err("somebody has left".into()),
        false => Ok(()),
    }
}

/// A server is killed, and its people come back at once to the others. Counts from its end until all
/// of them have what was said meanwhile.
fn kill(lab: &Lab) -> Result<Vec<Sample>> {
    let rooms = if lab.options.short { 20 } else { 200 };
    let mut cluster = Cluster::start(lab, NODES, false)?;
    let mut rooms = Returning::connect(&cluster, rooms)?;
    rooms.say()?;
    rooms.listen_until_complete()?;
    drop(cluster.nodes.pop());
    let began = Instant::now();
    rooms.say()?;
    rooms.come_back(&cluster)?;
    rooms.listen_until_complete()?;
    let took = began.elapsed();
    rooms.say()?;
    rooms.listen_until_complete()?;
    rooms.listen(Duration::from_millis(20))?; // Would show surplus messages.
    let figure = "a killed server's people are back at another one";
    Ok(vec![within(figure, took, Duration::from_secs(1))])
}

/// Rooms with a member at each server. All but the last member of each stay, and send in turns.
struct Returning {
    rooms: Vec<Room>,
    staying: Clients,
    /// The connections of the last members, one in each room, with their paths.
    moving: Clients,
    paths: Vec<String>,
    /// The last message that each of them has.
    last: Vec<String>,
}

const STAYING: usize = NODES - 1;

impl Returning {
    fn connect(cluster: &Cluster, rooms: usize) -> Result<Returning> {
        let all = cluster.nodes[0].member_paths(rooms, NODES)?;
        let of = |is_moving: bool| {
            let paths = all.iter().enumerate();
            paths.filter(move |(number, _)| (number % NODES == STAYING) == is_moving)
        };
        let stay: Vec<String> = of(false).map(|(_, path)| path.clone()).collect();
        let paths: Vec<String> = of(true).map(|(_, path)| path.clone()).collect();
        let mut staying = Clients::spread(|it| cluster.nodes[it % STAYING].address, &stay)?;
        let mut moving = Clients::connect(cluster.nodes[STAYING].address, &paths)?;
        staying.settle(QUIET)?;
        moving.settle(QUIET)?;
        let rooms = (0..rooms).map(|_| Room::new(NODES, STAYING as u32));
        let last = vec![String::new(); paths.len()];
        Ok(Returning { rooms: rooms.collect(), staying, moving, paths, last })
    }

    /// A message in each room.
    fn say(&mut self) -> Result<()> {
        for (room, state) in self.rooms.iter_mut().enumerate() {
            let (number, sender) = state.send();
            let text = format!(r#"{{"type":"chat","message":"~{room:06x}{number:08x}"}}"#);
            self.staying.send(room * STAYING + sender, text.as_bytes())?;
        }
        Ok(())
    }

    fn come_back(&mut self, cluster: &Cluster) -> Result<()> {
        self.moving = Clients::new()?;
        for (number, (path, last)) in self.paths.iter().zip(&self.last).enumerate() {
            let address = cluster.nodes[number % STAYING].address;
            self.moving.open(address, &format!("{path}&after={last}"))?;
        }
        Ok(())
    }

    fn listen_until_complete(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while !self.rooms.iter().all(Room::is_complete) {
            if Instant::now() > end {
                return Err("messages are missing".into());
            }
            self.listen(Duration::from_millis(1))?;
        }
        Ok(())
    }

    fn listen(&mut self, timeout: Duration) -> Result<()> {
        let rooms = &mut self.rooms;
        self.staying.listen(timeout, |it, text, _| {
            on_event(rooms, it / STAYING, it % STAYING, text)?;
            Ok(())
        })?;
        let last = &mut self.last;
        self.moving.listen(timeout, |room, text, _| {
            if let Some(id) = on_event(rooms, room, STAYING, text)? {
                last[room] = id;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Counts the messages of an event, which may be a part of the history. Returns the id of the last.
fn on_event(
    rooms: &mut [Room],
    room: usize,
    member: usize,
    event: &[u8],
) -> Result<Option<String>> {
    nobody_leaves(event)?;
    if contains(event, br#""complete":false"#) {
        return Err("messages of the history are missing".into());
    }
    let (mut rest, mut last) = (event, None);
    while let Some((of, number)) = traffic::marked(rest, &mut 0) {
        if of != room {
            return Err(format!("a message of room {of} is received in another").into());
        }
        rooms[room].on_delivery(member, number)?;
        let at = rest.windows(2).position(|some| some == b"\"~").unwrap_or_default();
        let id = rest[..at].windows(7).rposition(|some| some == br#"{"id":""#);
        let id = id.and_then(|id| rest.get(id + 7..id + 43)).ok_or("a message without an id")?;
        last = Some(String::from_utf8_lossy(id).into_owned());
        rest = &rest[at + 2..];
    }
    Ok(last)
}

/// What a server without clients costs. Its commands are counted with the one that asks for them.
fn idle(lab: &Lab) -> Result<Vec<Sample>> {
    let cluster = Cluster::start(lab, 1, false)?;
    let process = cluster.nodes[0].process.ok_or("the server's process isn't known")?;
    let seconds = if lab.options.short { 1 } else { 10 };
    thread::sleep(Duration::from_secs(seconds.min(2)));
    let (wake_ups, (sent, all)) = (machine::wake_ups(process)?, cluster.store.commands()?);
    thread::sleep(Duration::from_secs(seconds));
    let (later, (sent_later, all_later)) = (machine::wake_ups(process)?, cluster.store.commands()?);
    let sample = |figure, count: u64, most| {
        let (server, goal) = (count as f64 / seconds as f64, Goal::AtMost(most));
        Sample { figure, unit: "per second", server, other: None, goal, disturbance: None }
    };
    Ok(vec![
        sample("an idle server: wake-ups", later - wake_ups, 2.0),
        sample("an idle server: commands", sent_later - sent - 1, 10.0),
        sample("an idle server: commands, with those inside functions", all_later - all - 1, 20.0),
    ])
}

/// What is measured of the innocents' messages: half of them, 99 % of them, and the flood's answers.
type AttackFigures = [&'static str; 4];

const AT_REST: [&str; 2] = ["300 deliveries/s, no flood: p50", "300 deliveries/s, no flood: p99"];

const ATTACKS: &[(Attack, AttackFigures)] = &[
    (
        Attack::Rooms,
        [
            "flood of GET /rooms/{id}: p50",
            "flood of GET /rooms/{id}: p99",
            "flood of GET /rooms/{id}: answers",
            "flood of GET /rooms/{id}: refused",
        ],
    ),
    (
        Attack::WrongSessions,
        [
            "flood of wrong sessions: p50",
            "flood of wrong sessions: p99",
            "flood of wrong sessions: answers",
            "flood of wrong sessions: refused",
        ],
    ),
    (
        Attack::Joins,
        [
            "flood of joins: p50",
            "flood of joins: p99",
            "flood of joins: answers",
            "flood of joins: refused",
        ],
    ),
    (
        Attack::Pages,
        [
            "flood of messages pages: p50",
            "flood of messages pages: p99",
            "flood of messages pages: answers",
            "flood of messages pages: refused",
        ],
    ),
];

/// The time from when a message is due until all three members of its room, each at another server, have
/// received it, at rest and while attackers flood the servers.
fn attacks(lab: &Lab) -> Result<Vec<Sample>> {
    let load = Load { rooms: 10, members: NODES, pace: Pace::PerSecond(100) };
    let _real_time = RealTime::begin(None);
    let cluster = Cluster::start(lab, NODES, false)?;
    let attackers = Attackers::prepare(&cluster.nodes)?;
    let deliver = || {
        let (mut clients, mut traffic) = cluster.connect(load)?;
        traffic.run(&mut clients, lab.span, None)
    };
    let sample = |figure, unit, server, goal| Sample {
        figure,
        unit,
        server,
        other: None,
        goal,
        disturbance: None,
    };
    let latencies = |[median, high]: [&'static str; 2], delivered: &Delivered, goal| {
        let at = |share| delivered.latency_micros(share);
        [sample(median, "µs", at(0.50), Goal::None), sample(high, "µs", at(0.99), goal)]
    };
    let samples = latencies(AT_REST, &deliver()?, Goal::None);
    let mut samples = Vec::from(samples);
    for &(attack, [median, high, answers, refused]) in ATTACKS {
        let (delivered, flooded) = attackers.flood(attack, deliver)?;
        samples.extend(latencies([median, high], &delivered, Goal::AtMost(50_000.0)));
        samples.push(sample(answers, "per second", flooded.per_second, Goal::None));
        samples.push(sample(refused, "%", flooded.refused * 100.0, Goal::None));
    }
    Ok(samples)
}
