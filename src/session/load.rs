//! From a carried cookie to a session: looked at once, when first asked for.

use parking_lot::MutexGuard;

use super::carried::Carried;
use super::shared::Shared;
use super::state::{Live, Lost, Token};
use super::{Held, Inner, Known};
use crate::cookie::{Candidates, MAX_CANDIDATES, Sole};
use crate::error::Result;
use crate::expiry::Timestamp;
use crate::id::{SessionId, SessionToken};
use crate::keyring::{KeyRing, Refusal, Unsealed, token_in, unseal};
use crate::origin::Origin;
use crate::record::Absence;
use crate::store::{Access, Answer, Freshness, Loaded};
use crate::watch;

/// What became of the carried cookie.
pub(super) struct Conclusion {
    origin: Origin,
    live: Option<Live>,
    lost: Option<Lost>,
    /// When the session was ended, if it was.
    ended_at: Option<Timestamp>,
    /// Signed with a retiring key.
    resign: bool,
    client_has_cookie: bool,
}

impl Conclusion {
    /// There is no cookie.
    pub(super) const NOTHING: Self = Self::none(Origin::New, false);

    const fn none(origin: Origin, client_has_cookie: bool) -> Self {
        Self { origin, live: None, lost: None, ended_at: None, resign: false, client_has_cookie }
    }

    pub(super) fn absent(absence: Absence) -> Self {
        let ended_at = match absence {
            Absence::Ended { at, .. } => Some(at),
            _ => None,
        };
        Self { lost: Lost::at_load(absence), ended_at, ..Self::none(absence.into(), true) }
    }

    /// Whether the session may have been over only after `changed`. An ending in the same
    /// millisecond is taken for one by the same request.
    fn may_be_since(&self, changed: Timestamp, shared: &Shared) -> bool {
        match self.ended_at {
            Some(ended) => ended >= changed,
            // If it was renewed since then, the mark of that may be gone by now.
            None => {
                let lasted = || shared.clock.now().saturating_since(changed);
                self.origin == Origin::NotFound && lasted() >= shared.settings.grace
            }
        }
    }
}

impl Inner {
    /// Looks at the carried cookie, unless that was done.
    ///
    /// Boxed is what has to wait: a handler's future would have the room for it in every request,
    /// and beyond a kilobyte memory is no longer at hand in the allocator's cache of its thread.
    pub(super) async fn loaded(&self) -> Result<Held<'_>> {
        let later = match self.loaded_now() {
            Ok(loaded) => return loaded,
            Err(waiting) => Box::pin(self.loaded_later(waiting)),
        };
        later.await
    }

    /// The same without waiting.
    #[inline]
    fn loaded_now(&self) -> std::result::Result<Result<Held<'_>>, Waiting> {
        let mut known = self.known.lock();
        let state = known.state();
        state.consulted |= !state.head_sent;
        if state.origin.is_none() {
            match self.shared.conclude_now(&known.carried) {
                Tried::Concluded(Ok(conclusion)) => known.install(&self.shared, conclusion),
                Tried::Concluded(Err(error)) => return Ok(Err(error)),
                Tried::Loading(found, answer) => return Err(Waiting::Loading(found, answer)),
                Tried::NotNow => return Err(Waiting::Concluding(known.carried.clone())),
            }
        }
        Ok(Ok(MutexGuard::map(known, Known::state)))
    }

    async fn loaded_later(&self, waiting: Waiting) -> Result<Held<'_>> {
        let conclusion = match waiting {
            Waiting::Concluding(carried) => self.shared.conclude(&carried).await?,
            Waiting::Loading(found, answer) => self.shared.choice(&found, answer.await?),
        };
        let mut known = self.known.lock();
        known.install(&self.shared, conclusion);
        Ok(MutexGuard::map(known, Known::state))
    }
}

/// What a handle has to wait for.
enum Waiting {
    /// All that the request carried has to be looked at.
    Concluding(Carried),
    Loading(Found, Answer<Loaded>),
}

impl Known {
    /// Clones of a handle may load at the same time: the first one's conclusion stands.
    #[inline]
    pub(super) fn install(&mut self, shared: &Shared, conclusion: Conclusion) {
        let state = self.state.get_or_insert_default();
        if state.origin.is_some() {
            return;
        }
        state.origin = Some(conclusion.origin);
        // What was to be changed before the end is lost with it, though nobody had looked.
        let changed_at = state.changed_at.filter(|_| !state.draft.is_empty());
        let is_gone = changed_at.is_some_and(|changed| conclusion.may_be_since(changed, shared));
        state.lost = conclusion.lost.or(is_gone.then_some(Lost::Gone));
        state.resign = conclusion.resign;
        state.client_has_cookie = conclusion.client_has_cookie;
        state.live = conclusion.live;
        if state.live.is_none() || self.is_answered {
            self.carried = Carried::default();
        }
        shared.tell_origin(conclusion.origin, state.live.as_ref().map(|live| &live.id));
    }

    /// The token of the session, to be sent once more; `None` once the request is answered.
    pub(super) fn token(&self, shared: &Shared) -> Option<SessionToken> {
        let Live { id, token, .. } = self.state.as_ref()?.live.as_ref()?;
        match token {
            Token::Unknown => None,
            Token::New(token) => Some(token.clone()),
            Token::Carried => {
                let Candidates::Found(values) = shared.candidates(&self.carried) else {
                    return None;
                };
                values.iter().filter_map(|value| token_in(value)).find(|token| token.id() == *id)
            }
        }
    }

    /// The request is answered: no token is sent from now on, and a handle that lives on, as that of
    /// a WebSocket, should keep neither token nor headers in memory. What nobody has looked at yet
    /// stays until somebody does.
    #[cfg(feature = "axum")]
    pub(super) fn let_go(&mut self) {
        self.is_answered = true;
        let Some(state) = &mut self.state else { return };
        if let Some(live) = &mut state.live {
            live.token = Token::Unknown;
        }
        if state.origin.is_some() {
            self.carried = Carried::default();
        }
    }
}

/// What can be said of a carried cookie without waiting.
enum Tried {
    Concluded(Result<Conclusion>),
    /// The store was asked for its session, and has to wait for the answer.
    Loading(Found, Answer<Loaded>),
    /// It is not as nearly all are: one cookie, of a known key.
    NotNow,
}

/// The same before the store was asked.
pub(super) enum Sought {
    /// There is no cookie.
    Nothing,
    Found(Found),
    /// It is not as nearly all are.
    NotNow,
}

/// The one verified token of a request.
pub(super) struct Found {
    pub(super) id: SessionId,
    signed_by_active: bool,
    pub(super) at: Timestamp,
}

impl Found {
    /// Whether the cookie is one that the client may keep.
    pub(super) fn is_current(&self) -> bool {
        self.signed_by_active
    }
}

impl Shared {
    /// A request's count, and its one line, about its cookie. Cookies that open nothing are for
    /// anybody to send, so that their lines are bounded.
    pub(super) fn tell_origin(&self, origin: Origin, id: Option<&SessionId>) {
        self.counters.count(origin);
        let (name, id) = (origin.as_str(), id.map(tracing::field::display));
        if matches!(origin, Origin::New | Origin::Restored) {
            tracing::debug!(origin = name, id, "session concluded");
        } else if let Some(left_out) = self.log_limit.admit(self.clock.now()) {
            tracing::debug!(origin = name, left_out, "session concluded");
        }
    }

    /// The values that may be the token.
    #[inline]
    fn candidates<'a>(&self, carried: &'a Carried) -> Candidates<'a> {
        #[cfg(feature = "axum")]
        if self.settings.header.is_some() {
            return carried.alone();
        }
        carried.cookies(self.settings.cookie.name())
    }

    /// The value that is the token, if there is one at most.
    #[inline]
    fn sole<'a>(&self, carried: &'a Carried) -> Sole<'a> {
        #[cfg(feature = "axum")]
        if self.settings.header.is_some() {
            return match carried.alone() {
                Candidates::Found(values) => {
                    values.first().map_or(Sole::Nothing, |v| Sole::Value(v))
                }
                _ => Sole::Unclear,
            };
        }
        carried.sole_cookie(self.settings.cookie.name())
    }

    /// The same as [`Shared::conclude`], as far as that needs no waiting and there is one cookie
    /// only: no future, and no copy of what the request carried.
    #[inline]
    fn conclude_now(&self, carried: &Carried) -> Tried {
        let found = match self.seek(carried) {
            Sought::Nothing => return Tried::Concluded(Ok(Conclusion::NOTHING)),
            Sought::Found(found) => found,
            Sought::NotNow => return Tried::NotNow,
        };
        match self.store.load(&found.id, &self.access_at(found.at)).now() {
            Ok(loaded) => Tried::Concluded(loaded.map(|loaded| self.choice(&found, loaded))),
            Err(answer) => {
                let answer = watch::loading(answer, &found.id);
                Tried::Loading(found, answer)
            }
        }
    }

    /// The one cookie and what it says, without waiting.
    #[inline]
    pub(super) fn seek(&self, carried: &Carried) -> Sought {
        let value = match self.sole(carried) {
            Sole::Nothing => return Sought::Nothing,
            Sole::Value(value) => value,
            Sole::Unclear => return Sought::NotNow,
        };
        // If the ring is not at hand, asking for it again costs no more than waiting for it.
        let Ok(Ok(ring)) = self.store.keys(Freshness::Recent).now() else { return Sought::NotNow };
        let at = self.clock.now();
        match unseal(&ring, &self.settings.scope, value, at) {
            Ok(Unsealed { id, signed_by_active, .. }) => {
                Sought::Found(Found { id, signed_by_active, at })
            }
            Err(_) => Sought::NotNow,
        }
    }

    /// What there is to choose from with one verified token.
    #[inline]
    fn choice(&self, found: &Found, loaded: Loaded) -> Conclusion {
        let Found { id, signed_by_active, at } = *found;
        match self.own(loaded) {
            Loaded::Live(record) => Conclusion {
                live: Some(Live::new(id, Token::Carried, record, at)),
                resign: !signed_by_active,
                ..Conclusion::none(Origin::Restored, true)
            },
            Loaded::Absent(absence) => Conclusion::absent(absence),
        }
    }

    async fn conclude(&self, carried: &Carried) -> Result<Conclusion> {
        let values = match self.candidates(carried) {
            Candidates::Found(values) if values.is_empty() => return Ok(Conclusion::NOTHING),
            Candidates::Found(values) => values,
            Candidates::TooMany | Candidates::TooLarge => {
                return Ok(Conclusion::none(Origin::Malformed, true));
            }
        };
        let access = self.access();
        let verified = self.verify(&values, access.at).await?;
        if verified.tokens[0].is_none() {
            return Ok(Conclusion::none(verified.refusal(), true));
        }
        self.choose(&verified, &access).await
    }

    async fn verify(&self, values: &[&[u8]], at: Timestamp) -> Result<Verified> {
        let verified = self.unseal_all(&self.keys().await?, values, at);
        if !verified.has_unknown_key {
            return Ok(verified);
        }
        Ok(self.unseal_all(&self.reread_keys().await?, values, at))
    }

    fn unseal_all(&self, ring: &KeyRing, values: &[&[u8]], at: Timestamp) -> Verified {
        let mut verified = Verified::default();
        for value in values {
            match unseal(ring, &self.settings.scope, value, at) {
                Ok(token) => verified.add(token),
                Err(Refusal::Malformed) => {}
                Err(refusal) => {
                    verified.has_unknown_key |= matches!(refusal, Refusal::UnknownKey(_));
                    verified.has_bad_signature = true;
                }
            }
        }
        verified
    }

    /// The one live session among the verified tokens. With two there is none: which of them is
    /// meant would depend on their order, and so on whoever planted the second one.
    async fn choose(&self, verified: &Verified, access: &Access) -> Result<Conclusion> {
        let mut live = None;
        let mut absent: Option<Absence> = None;
        for &Unsealed { id, signed_by_active, .. } in verified.tokens.iter().flatten() {
            match self.own(watch::loading(self.store.load(&id, access), &id).await?) {
                Loaded::Live(record) if live.is_none() => {
                    let found = Live::new(id, Token::Carried, record, access.at);
                    live = Some((found, !signed_by_active));
                }
                Loaded::Live(_) => return Ok(Conclusion::none(Origin::Malformed, true)),
                Loaded::Absent(other) => {
                    absent = absent.into_iter().chain([other]).max_by_key(precedence);
                }
            }
        }
        let Some((live, resign)) = live else {
            return Ok(Conclusion::absent(absent.unwrap_or(Absence::NotFound)));
        };
        Ok(Conclusion { live: Some(live), resign, ..Conclusion::none(Origin::Restored, true) })
    }

    /// A session of another realm is none here.
    #[inline]
    fn own(&self, loaded: Loaded) -> Loaded {
        match loaded {
            Loaded::Live(record) if record.realm() != self.settings.realm => {
                Loaded::Absent(Absence::NotFound)
            }
            loaded => loaded,
        }
    }
}

/// What the signatures say of the candidate cookies.
#[derive(Default)]
struct Verified {
    /// The different tokens, those that there are first.
    tokens: [Option<Unsealed>; MAX_CANDIDATES],
    has_unknown_key: bool,
    /// In the form of a sealed token, but not signed with a key of the ring.
    has_bad_signature: bool,
}

impl Verified {
    fn add(&mut self, new: Unsealed) {
        for place in &mut self.tokens {
            match place {
                // The same token twice, signed with two keys.
                Some(known) if known.id == new.id => {
                    known.signed_by_active |= new.signed_by_active;
                    return;
                }
                Some(_) => {}
                None => {
                    *place = Some(new);
                    return;
                }
            }
        }
    }

    /// Why there is no token.
    fn refusal(&self) -> Origin {
        if self.has_bad_signature { Origin::BadSignature } else { Origin::Malformed }
    }
}

/// Of several absences the one that forbids the most is told.
fn precedence(absence: &Absence) -> u8 {
    match absence {
        Absence::NotFound => 0,
        Absence::Corrupt => 1,
        Absence::Expired => 2,
        Absence::Ended { concurrent: false, .. } => 3,
        Absence::Ended { concurrent: true, .. } => 4,
        Absence::Superseded { .. } => 5,
    }
}
