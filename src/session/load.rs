//! From a carried cookie to a session: looked at once, when first asked for.

use super::Inner;
use super::carried::Carried;
use super::shared::Shared;
use super::state::{Live, Lost};
use crate::cookie::Candidates;
use crate::error::Result;
use crate::id::SessionToken;
use crate::keyring::{KeyRing, Refusal, Unsealed, unseal};
use crate::origin::Origin;
use crate::record::{Absence, Record};
use crate::store::Loaded;

/// What became of the carried cookie.
struct Conclusion {
    origin: Origin,
    live: Option<(SessionToken, Record)>,
    lost: Option<Lost>,
    /// Signed with a retiring key.
    resign: bool,
    client_has_cookie: bool,
}

impl Conclusion {
    fn none(origin: Origin, client_has_cookie: bool) -> Self {
        Self { origin, live: None, lost: None, resign: false, client_has_cookie }
    }
}

impl Inner {
    /// Looks at the carried cookie, unless that was done.
    pub(crate) async fn loaded(&self) -> Result<()> {
        let carried = {
            let mut state = self.state.lock();
            state.consulted |= !state.head_sent;
            if state.origin.is_some() {
                return Ok(());
            }
            state.carried.clone()
        };
        let conclusion = self.shared.conclude(&carried).await?;
        self.install(conclusion);
        Ok(())
    }

    /// Clones of a handle may load at the same time: the first one's conclusion stands.
    fn install(&self, conclusion: Conclusion) {
        let mut state = self.state.lock();
        if state.origin.is_some() {
            return;
        }
        state.origin = Some(conclusion.origin);
        state.lost = conclusion.lost;
        state.resign = conclusion.resign;
        state.client_has_cookie = conclusion.client_has_cookie;
        state.carried = Carried::default();
        state.live = conclusion.live.map(|(token, record)| Live {
            id: token.id(),
            token: Some(token),
            record,
        });
        // The one place where a request's origin is known, and its one line in the log.
        let id = state.live.as_ref().map(|live| tracing::field::display(live.id));
        tracing::debug!(origin = conclusion.origin.as_str(), id, "session concluded");
    }
}

impl Shared {
    async fn conclude(&self, carried: &Carried) -> Result<Conclusion> {
        if carried.is_empty() {
            return Ok(Conclusion::none(Origin::New, false));
        }
        let values = match carried.candidates(self.settings.cookie.name()) {
            Candidates::Found(values) if values.is_empty() => {
                return Ok(Conclusion::none(Origin::New, false));
            }
            Candidates::Found(values) => values,
            Candidates::TooMany | Candidates::TooLarge => {
                return Ok(Conclusion::none(Origin::Malformed, true));
            }
        };
        let (verified, refused) = self.verify(&values).await?;
        if verified.is_empty() {
            return Ok(Conclusion::none(refused, true));
        }
        self.choose(verified).await
    }

    /// The tokens among `values`, and why there is none if there is none.
    async fn verify(&self, values: &[&[u8]]) -> Result<(Vec<Unsealed>, Origin)> {
        let (mut verified, mut refused) = self.unseal_all(&self.keys().await?, values);
        if refused.iter().any(|refusal| matches!(refusal, Refusal::UnknownKey(_))) {
            (verified, refused) = self.unseal_all(&self.reread_keys().await?, values);
        }
        let malformed = refused.iter().all(|refusal| *refusal == Refusal::Malformed);
        Ok((verified, if malformed { Origin::Malformed } else { Origin::BadSignature }))
    }

    fn unseal_all(&self, ring: &KeyRing, values: &[&[u8]]) -> (Vec<Unsealed>, Vec<Refusal>) {
        let at = self.store.clock().now();
        let (mut verified, mut refused) = (Vec::<Unsealed>::new(), Vec::new());
        for value in values {
            match unseal(ring, &self.settings.scope, value, at) {
                // The same token twice, signed with two keys.
                Ok(new) => match verified.iter_mut().find(|known| known.token == new.token) {
                    Some(known) => known.signed_by_active |= new.signed_by_active,
                    None => verified.push(new),
                },
                Err(refusal) => refused.push(refusal),
            }
        }
        (verified, refused)
    }

    /// The one live session among the verified tokens. With two there is none: which of them is
    /// meant would depend on their order, and so on whoever planted the second one.
    async fn choose(&self, verified: Vec<Unsealed>) -> Result<Conclusion> {
        let mut live = None;
        let mut absent: Option<Absence> = None;
        for Unsealed { token, signed_by_active, .. } in verified {
            match self.load_own(&token).await? {
                Loaded::Live(record) if live.is_none() => {
                    live = Some((token, record, !signed_by_active));
                }
                Loaded::Live(_) => return Ok(Conclusion::none(Origin::Malformed, true)),
                Loaded::Absent(other) => {
                    absent = absent.into_iter().chain([other]).max_by_key(precedence);
                }
            }
        }
        let (origin, lost) = match absent {
            Some(absence) => (absence.into(), Lost::at_load(absence)),
            None => (Origin::NotFound, None),
        };
        let Some((token, record, resign)) = live else {
            return Ok(Conclusion { lost, ..Conclusion::none(origin, true) });
        };
        let live = Some((token, record));
        Ok(Conclusion { live, resign, ..Conclusion::none(Origin::Restored, true) })
    }

    async fn load_own(&self, token: &SessionToken) -> Result<Loaded> {
        Ok(match self.load(&token.id()).await? {
            Loaded::Live(record) if record.realm() != self.settings.realm => {
                Loaded::Absent(Absence::NotFound)
            }
            loaded => loaded,
        })
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
