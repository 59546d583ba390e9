//! What the store must hold: the answers it gave.

use std::collections::BTreeMap;
use std::time::Duration;

use fastsession::record::{Absence, Changes};
use fastsession::store::{
    Access, Commit, Draft, End, Freshness, KeyChange, Loaded, Login, Op, Outcome, Query, Sweep,
    Target,
};
use fastsession::{
    Clock, EndedBy, Error, Filter, RedbStore, Result, SessionId, SessionStore, Timeouts,
};

use crate::random::Random;

/// Long, so that nothing ends but by an action.
const TIMEOUTS: Timeouts =
    Timeouts::new(Duration::from_secs(300 * 86_400), Duration::from_secs(600 * 86_400));

/// A live session, as it is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Live {
    pub(crate) user: Option<String>,
    pub(crate) data: BTreeMap<String, Vec<u8>>,
}

/// Every session there ever was, `None` if it is over; and the version of the key ring.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct World {
    pub(crate) sessions: BTreeMap<SessionId, Option<Live>>,
    pub(crate) ring_version: u64,
}

/// One thing done to the store.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Create { id: SessionId, user: Option<String>, value: Vec<u8> },
    Merge { id: SessionId, key: String, value: Vec<u8> },
    CompareAndSet { id: SessionId, key: String, expected: Option<Vec<u8>>, value: Vec<u8> },
    Touch { id: SessionId },
    Load { id: SessionId },
    Renew { id: SessionId, new_id: SessionId, login: Option<String> },
    Destroy { id: SessionId },
    ExpireIds { ids: Vec<SessionId> },
    ExpireUser { user: String, except: Option<SessionId> },
    ExpireEveryone { except: Option<SessionId> },
    Purge,
    Sweep,
    Rotate { version: u64 },
}

/// Sessions that one task works on, so that its actions come one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Lane {
    number: u64,
    count: u64,
}

impl Lane {
    pub(crate) fn new(number: u64) -> Self {
        Self { number, count: 0 }
    }

    /// An ID that the seed repeats; spread like a hash.
    fn new_id(&mut self) -> SessionId {
        self.count += 1;
        let mut random = Random::new(self.number << 32 | self.count);
        let mut bytes = [0; SessionId::LEN];
        for part in bytes.chunks_exact_mut(8) {
            part.copy_from_slice(&random.next().to_le_bytes());
        }
        // Whose it is: see `owns`.
        bytes[31] = self.number as u8;
        SessionId::from_bytes(bytes)
    }

    fn owns(&self, id: &SessionId) -> bool {
        id.as_bytes()[31] == self.number as u8
    }

    fn users(&self) -> [String; 2] {
        ["a", "b"].map(|name| format!("{name}{}", self.number))
    }

    /// A new session.
    pub(crate) fn create(&mut self) -> Action {
        self.create_of(None, 30_000)
    }

    pub(crate) fn create_of(&mut self, user: Option<String>, size: usize) -> Action {
        Action::Create { id: self.new_id(), user, value: vec![1; size] }
    }

    /// Something sensible to do to this lane's sessions.
    pub(crate) fn next(&mut self, world: &World, random: &mut Random) -> Action {
        let own = world.sessions.iter().filter(|(id, _)| self.owns(id));
        let live: Vec<_> = own.filter_map(|(id, live)| Some((*id, live.as_ref()?))).collect();
        let user = self.users()[random.below(2) as usize].clone();
        let size = [8, 200, 3000, 20_000][random.below(4) as usize];
        let value = vec![random.next() as u8; size];
        if live.len() < 2 || random.below(6) == 0 && live.len() < 12 {
            let user = (random.below(2) == 0).then_some(user);
            return Action::Create { id: self.new_id(), user, value };
        }
        let (id, session) = live[random.below(live.len() as u64) as usize];
        let key = ["k", "l", "m"][random.below(3) as usize].to_owned();
        match random.below(13) {
            0..3 => Action::Merge { id, key, value },
            3 | 4 => {
                let expected = session.data.get(&key).cloned();
                Action::CompareAndSet { id, key, expected, value }
            }
            5 => Action::Touch { id },
            6 => Action::Load { id },
            7 => Action::Renew { id, new_id: self.new_id(), login: None },
            8 => Action::Renew { id, new_id: self.new_id(), login: Some(user) },
            9 => Action::Destroy { id },
            10 => Action::ExpireIds { ids: live.iter().take(3).map(|(id, _)| *id).collect() },
            11 => Action::ExpireUser { user, except: (random.below(2) == 0).then_some(id) },
            _ => Action::Sweep,
        }
    }
}

impl Action {
    /// Something that concerns every session.
    pub(crate) fn global(world: &World, random: &mut Random) -> Self {
        let live = world.sessions.iter().find(|(_, live)| live.is_some());
        match random.below(4) {
            0 => Self::ExpireEveryone {
                except: live.map(|(id, _)| *id).filter(|_| random.below(2) == 0),
            },
            1 => Self::Rotate { version: world.ring_version + 1 },
            _ => Self::Purge,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Create { .. } => "create",
            Self::Merge { .. } => "update (merge)",
            Self::CompareAndSet { .. } => "update (compare)",
            Self::Touch { .. } => "touch",
            Self::Load { .. } => "load",
            Self::Renew { login: None, .. } => "renew",
            Self::Renew { .. } => "login",
            Self::Destroy { .. } => "destroy",
            Self::ExpireIds { .. } => "expire ids",
            Self::ExpireUser { .. } => "expire user",
            Self::ExpireEveryone { .. } => "expire all",
            Self::Purge => "purge",
            Self::Sweep => "sweep",
            Self::Rotate { .. } => "rotate",
        }
    }

    /// The world after it.
    pub(crate) fn apply(&self, world: &mut World) {
        let sessions = &mut world.sessions;
        match self {
            Self::Create { id, user, value } => {
                let data = BTreeMap::from([("k".to_owned(), value.clone())]);
                sessions.insert(*id, Some(Live { user: user.clone(), data }));
            }
            Self::Merge { id, key, value } | Self::CompareAndSet { id, key, value, .. } => {
                let live = sessions.get_mut(id).unwrap().as_mut().unwrap();
                live.data.insert(key.clone(), value.clone());
            }
            Self::Renew { id, new_id, login } => {
                let mut live = sessions.insert(*id, None).unwrap().unwrap();
                if let Some(user) = login {
                    if live.user.as_ref().is_some_and(|old| old != user) {
                        live.data.clear();
                    }
                    live.user = Some(user.clone());
                }
                live.data.insert("renewed".into(), vec![1]);
                sessions.insert(*new_id, Some(live));
            }
            Self::Destroy { id } => drop(sessions.insert(*id, None)),
            Self::ExpireIds { ids } => ids.iter().for_each(|id| drop(sessions.insert(*id, None))),
            Self::ExpireUser { user, except } => {
                end_all(sessions, *except, |live| live.user.as_ref() == Some(user));
            }
            Self::ExpireEveryone { except } => end_all(sessions, *except, |_| true),
            Self::Rotate { version } => world.ring_version = *version,
            Self::Touch { .. } | Self::Load { .. } | Self::Purge | Self::Sweep => {}
        }
    }

    /// Does it. Panics if the store answers what the world does not allow.
    pub(crate) async fn run(&self, store: &RedbStore, clock: &Clock) -> Result<()> {
        let at = clock.now();
        let end = |target, except| End { target, except, by: EndedBy::Application, at };
        let sweep = |purge| Sweep { at, limit: 8, purge };
        match self {
            Self::Touch { id } => store.touch(id, &access(clock)),
            Self::Load { id } => {
                let loaded = store.load(id, &access(clock)).await?;
                assert!(matches!(loaded, Loaded::Live(_)), "{loaded:?}");
            }
            Self::ExpireIds { ids } => {
                let target = Target::Sessions { ids: ids.clone(), filter: Filter::new() };
                let report = store.end(end(target, None)).await?;
                assert_eq!(report.ended, ids.len() as u64);
            }
            Self::ExpireUser { user, except } => {
                store.end(end(Target::User(user.as_str().into()), *except)).await?;
            }
            Self::ExpireEveryone { except } => {
                store.end(end(Target::Everyone, *except)).await?;
            }
            Self::Purge => while store.sweep(sweep(true)).await?.more {},
            Self::Sweep => drop(store.sweep(sweep(false)).await?),
            Self::Rotate { version } => {
                let retire_after = Some(Duration::from_secs(1));
                let ring = store.change_keys(KeyChange::Rotate { at, retire_after }).await?;
                assert_eq!(ring.version(), *version);
            }
            _ => {
                let (id, op) = self.commit();
                let commit = Commit { id, access: access(clock), max_data_bytes: 1 << 20, op };
                let outcome = store.commit(commit).await?;
                assert!(matches!(outcome, Outcome::Committed(_)), "{self:?}: {outcome:?}");
            }
        }
        Ok(())
    }

    fn commit(&self) -> (SessionId, Op) {
        let login = |user: &String| Login { user: user.as_str().into(), cap: None };
        match self {
            Self::Create { id, user, value } => {
                let login = user.as_ref().map(login);
                (*id, Op::Create { realm: None, draft: draft("k", value), login })
            }
            Self::Merge { id, key, value } => {
                let (draft, seen) = (draft(key, value), value.len().is_multiple_of(2));
                (*id, if seen { Op::Merge(draft) } else { Op::MergeUnseen { realm: None, draft } })
            }
            Self::CompareAndSet { id, key, expected, value } => {
                let expected = expected.as_ref().map(|value| value.as_slice().into());
                let value = Some(value.as_slice().into());
                (*id, Op::CompareAndSet { key: key.as_str().into(), expected, value })
            }
            Self::Renew { id, new_id, login: user } => {
                let draft = draft("renewed", &[1]);
                let login = user.as_ref().map(login);
                (*id, Op::Renew { new_id: *new_id, draft, login, grace: GRACE })
            }
            Self::Destroy { id } => (*id, Op::End { by: EndedBy::Application, grace: GRACE }),
            other => panic!("{other:?} is no commit"),
        }
    }
}

const GRACE: Duration = Duration::from_secs(2);

fn draft(key: &str, value: &[u8]) -> Draft {
    let mut changes = Changes::new();
    changes.set(key, value.to_vec()).unwrap();
    Draft { changes, ..Draft::default() }
}

fn access(clock: &Clock) -> Access {
    Access { timeouts: Some(TIMEOUTS), ..Access::at(clock.now()) }
}

fn end_all(
    sessions: &mut BTreeMap<SessionId, Option<Live>>,
    except: Option<SessionId>,
    concerns: impl Fn(&Live) -> bool,
) {
    for (id, live) in sessions {
        if Some(*id) != except && live.as_ref().is_some_and(&concerns) {
            *live = None;
        }
    }
}

/// What the store holds, read every way there is: by ID, page by page, and by user.
pub(crate) async fn read(store: &RedbStore, clock: &Clock, asked: &World) -> Result<World> {
    let mut world = World::default();
    for id in asked.sessions.keys() {
        let live = match store.load(id, &access(clock)).await? {
            Loaded::Live(record) => {
                let data = record.data().iter();
                let data = data.map(|(key, value)| (key.to_owned(), value.to_vec())).collect();
                Some(Live { user: record.user().map(str::to_owned), data })
            }
            Loaded::Absent(Absence::Corrupt) => panic!("{id} is corrupt"),
            Loaded::Absent(_) => None,
        };
        world.sessions.insert(*id, live);
    }
    let live = world.sessions.iter().filter_map(|(id, live)| Some((*id, live.as_ref()?)));
    let live: BTreeMap<_, _> = live.map(|(id, live)| (id, live.user.clone())).collect();
    let page = listed(store, clock, Filter::new()).await?;
    assert_eq!(page, live, "listed, and loaded");
    for user in live.values().flatten() {
        let of_user: BTreeMap<_, _> =
            live.clone().into_iter().filter(|(_, other)| other.as_ref() == Some(user)).collect();
        let page = listed(store, clock, Filter::new().user(user.as_str())).await?;
        assert_eq!(page, of_user, "listed as {user}'s, and loaded");
    }
    world.ring_version = store.keys(Freshness::Current).await?.version();
    Ok(world)
}

async fn listed(
    store: &RedbStore,
    clock: &Clock,
    filter: Filter,
) -> Result<BTreeMap<SessionId, Option<String>>> {
    let query = Query { filter, after: None, limit: usize::MAX, at: clock.now() };
    let page = store.page(&query).await?;
    assert!(page.corrupt.is_empty() && page.next.is_none(), "{page:?}");
    let rows = page.sessions.into_iter();
    Ok(rows.map(|row| (row.id, row.user.map(|user| user.to_string()))).collect())
}

/// What an answer that is an error says about the change.
pub(crate) fn may_have_landed(error: &Error) -> bool {
    assert!(error.is_store_failure(), "{error:?}");
    assert!(!error.to_string().contains("gone"), "nobody answered: {error:?}");
    error.is_unknown_outcome()
}
