//! Operations made of several calls of the trait: selecting, ending, purging.

use std::time::Duration;

use super::{
    Access, Commit, Draft, End, Filter, Op, Query, SessionStore, Summary, Sweep, Swept, Target,
};
use crate::error::Result;
use crate::id::SessionId;
use crate::record::EndedBy;

const PAGE: usize = 500;
/// What part of it is tried next where there is no room.
pub(crate) const FEWER: usize = 8;
/// Most rows one step of a purge removes; where time matters, a store bounds that too.
const PURGE_STEP: usize = 2000;
/// Sessions of one user that are counted before one commit ends them.
const MOST_COUNTED: usize = 1000;

/// Which sessions to end.
///
/// ```
/// use fastsession::{Filter, Selector};
/// let everyone = Selector::everyone();
/// let of_one_user = Selector::user("alice");
/// let visitors = Selector::filter(Filter::new().anonymous());
/// # let _ = (everyone, of_one_user, visitors);
/// ```
#[derive(Clone, Debug)]
pub struct Selector {
    what: What,
    except: Option<SessionId>,
}

#[derive(Clone, Debug)]
enum What {
    Ids(Vec<SessionId>),
    Filter(Filter),
}

impl Selector {
    /// Exactly these.
    pub fn ids(ids: impl IntoIterator<Item = SessionId>) -> Self {
        Self { what: What::Ids(ids.into_iter().collect()), except: None }
    }

    /// All of one user, in one small commit.
    pub fn user(user: impl Into<Box<str>>) -> Self {
        Self::filter(Filter::new().user(user))
    }

    /// Everyone's, in one small commit.
    pub fn everyone() -> Self {
        Self::filter(Filter::new())
    }

    /// The live ones that match. Each is checked again in the transaction that ends it.
    pub fn filter(filter: Filter) -> Self {
        Self { what: What::Filter(filter), except: None }
    }

    /// But not this one.
    #[must_use]
    pub fn except(mut self, id: SessionId) -> Self {
        self.except = Some(id);
        self
    }
}

/// What [`SessionStore::expire`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Expired {
    /// How many were ended. `None` where one commit ended too many to count first: everyone's, or
    /// more than 1,000 of one user.
    pub ended: Option<u64>,
    /// How many were over before; known for IDs only.
    pub already_over: u64,
}

/// What [`SessionStore::purge`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Purged {
    /// How many records were removed.
    pub purged: u64,
}

pub(crate) async fn sessions_of<S: SessionStore + ?Sized>(
    store: &S,
    user: &str,
) -> Result<Vec<Summary>> {
    let mut query = query(store, Filter::new().user(user));
    let mut sessions = Vec::new();
    loop {
        let page = store.page(&query).await?;
        sessions.extend(page.sessions);
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(sessions),
        }
    }
}

/// Ends what `selector` selects, in the name of `by`.
pub(crate) async fn expire<S: SessionStore + ?Sized>(
    store: &S,
    selector: Selector,
    by: EndedBy,
) -> Result<Expired> {
    let except = selector.except;
    match selector.what {
        What::Ids(ids) => {
            let ids: Vec<_> = ids.into_iter().filter(|id| Some(*id) != except).collect();
            let mut total = Expired { ended: Some(0), already_over: 0 };
            end_ids(store, &ids, &Filter::new(), by, &mut total).await?;
            Ok(total)
        }
        What::Filter(filter) => {
            let spared = [except.as_slice(), filter.exceptions()].concat();
            if filter.is_user_only() && spared.len() <= 1 {
                end_generation(store, filter.wanted_user(), spared.first().copied(), by).await
            } else {
                let filter = except.into_iter().fold(filter, Filter::except);
                end_matching(store, filter, by).await
            }
        }
    }
}

async fn end_generation<S: SessionStore + ?Sized>(
    store: &S,
    user: Option<&str>,
    except: Option<SessionId>,
    by: EndedBy,
) -> Result<Expired> {
    let (target, ended) = match user {
        Some(user) => (Target::User(user.into()), count_some(store, user, except).await?),
        None => (Target::Everyone, None),
    };
    store.end(End { target, except, by, at: store.clock().now() }).await?;
    Ok(Expired { ended, already_over: 0 })
}

/// How many live sessions a user has, unless it takes long to count them.
async fn count_some<S: SessionStore + ?Sized>(
    store: &S,
    user: &str,
    except: Option<SessionId>,
) -> Result<Option<u64>> {
    let mut query = query(store, Filter::new().user(user));
    let mut count = 0;
    loop {
        let page = store.page(&query).await?;
        count += page.sessions.iter().filter(|session| Some(session.id) != except).count();
        match page.next {
            Some(_) if count > MOST_COUNTED => return Ok(None),
            Some(next) => query.after = Some(next),
            None => return Ok(Some(count as u64)),
        }
    }
}

async fn end_matching<S: SessionStore + ?Sized>(
    store: &S,
    filter: Filter,
    by: EndedBy,
) -> Result<Expired> {
    let mut query = query(store, filter);
    let mut total = Expired { ended: Some(0), already_over: 0 };
    loop {
        let page = store.page(&query).await?;
        let ids: Vec<_> = page.sessions.iter().map(|session| session.id).collect();
        end_ids(store, &ids, &query.filter, by, &mut total).await?;
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok(total),
        }
    }
}

/// Ends the sessions of `ids` that match, some at a time, and adds them to `total`, which tells
/// what was done also if the rest failed.
pub(crate) async fn end_ids<S: SessionStore + ?Sized>(
    store: &S,
    ids: &[SessionId],
    filter: &Filter,
    by: EndedBy,
    total: &mut Expired,
) -> Result<()> {
    let (mut left, mut most) = (ids, PAGE);
    while !left.is_empty() {
        let (some, rest) = left.split_at(left.len().min(most));
        let target = Target::Sessions { ids: some.to_vec(), filter: filter.clone() };
        let end = End { target, except: None, by, at: store.clock().now() };
        let report = match store.end(end).await {
            Ok(report) => report,
            // Nothing was changed: what a store keeps free for endings is enough for fewer.
            Err(error) if error.is_full() && some.len() > 1 => {
                most = some.len().div_ceil(FEWER);
                continue;
            }
            Err(error) => return Err(error),
        };
        total.add(Expired { ended: Some(report.ended), already_over: report.already_over });
        left = rest;
    }
    Ok(())
}

impl Expired {
    fn add(&mut self, other: Self) {
        self.ended = self.ended.zip(other.ended).map(|(a, b)| a + b);
        self.already_over += other.already_over;
    }
}

/// Removes everything that is over.
pub(crate) async fn purge<S: SessionStore + ?Sized>(store: &S) -> Result<Purged> {
    let mut sweep = Sweep { at: store.clock().now(), limit: PURGE_STEP, purge: true };
    let mut purged = 0;
    loop {
        let swept = purge_step(store, &mut sweep).await?;
        purged += swept.removed;
        if !swept.more {
            return Ok(Purged { purged });
        }
    }
}

/// How often a purge tries again that finds no room for a single row, and after how long: the pages
/// of what it removed before are free once nobody reads an older state of the store.
const TRIES: usize = 20;
const BETWEEN_TRIES: Duration = Duration::from_millis(250);

/// One step of a purge; of fewer rows, from then on, where there is no room.
pub(crate) async fn purge_step<S: SessionStore + ?Sized>(
    store: &S,
    sweep: &mut Sweep,
) -> Result<Swept> {
    let mut tries = 0;
    loop {
        match store.sweep(*sweep).await {
            Err(error) if error.is_full() && sweep.limit > 1 => {
                sweep.limit = sweep.limit.div_ceil(FEWER);
            }
            Err(error) if error.is_full() && tries < TRIES => {
                tries += 1;
                tokio::time::sleep(BETWEEN_TRIES).await;
            }
            swept => return swept,
        }
    }
}

fn query<S: SessionStore + ?Sized>(store: &S, filter: Filter) -> Query {
    Query { filter, after: None, limit: PAGE, at: store.clock().now() }
}

pub(crate) async fn health<S: SessionStore + ?Sized>(store: &S) -> Result<()> {
    // No session has this ID: it is no hash of anything.
    let id = SessionId::from_bytes([0; SessionId::LEN]);
    let access = Access::at(store.clock().now());
    let op = Op::Merge(Draft::default());
    let read = store.timing();
    let written = store.commit(Commit { id, access, max_data_bytes: 0, op });
    read.await?;
    written.await.map(drop)
}
