//! Affinity: a client stays with the same upstream, as long as the upstream is available.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::header::{COOKIE, HeaderMap, HeaderName, HeaderValue, SET_COOKIE};
use hyper::{Method, StatusCode};
use lifecycle_proxy_sessions::{Session, SessionCount, SessionGuard, Sessions, Store};

use crate::config::{self, PathPrefix, StickyBy};
use crate::upstream::member::Member;

/// The length of the longest session name that is remembered.
const LONGEST_NAME: usize = 256;

/// The session of a client, with the upstream that the client stays with.
#[derive(Debug)]
pub struct Affinity(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    member: Arc<Member>,
    guard: Option<SessionGuard>,
}

impl Affinity {
    fn new(member: &Arc<Member>, guard: SessionGuard) -> Self {
        Self(Mutex::new(Inner {
            member: member.clone(),
            guard: Some(guard),
        }))
    }

    fn member(&self) -> Arc<Member> {
        self.lock().member.clone()
    }

    fn move_to(&self, member: &Arc<Member>) {
        self.lock().member = member.clone();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session for Affinity {
    fn end(&self) {
        self.lock().guard.take();
    }
}

/// A store of the upstreams that clients stay with. Clones are cheap.
#[derive(Clone)]
pub struct Sticky {
    by: StickyBy,
    /// The path of the route, which is also the path of the cookie.
    path: PathPrefix,
    store: Store<Affinity>,
}

/// The session that a request names, and the upstream of that session if it is known.
#[derive(Debug, Default)]
pub struct Claim {
    name: Option<String>,
    known: Option<Arc<Affinity>>,
}

impl Claim {
    /// Returns the upstream that the client stays with, if it is known.
    #[must_use]
    pub fn member(&self) -> Option<Arc<Member>> {
        self.known.as_ref().map(|known| known.member())
    }
}

impl Sticky {
    /// Creates an empty store, and the owner of its sessions. Remembered clients are also counted
    /// in `total`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(
        config: &config::Sticky,
        path: &PathPrefix,
        total: &SessionCount,
    ) -> (Sessions<Affinity>, Self) {
        let most = u64::try_from(config.most.get()).unwrap_or(u64::MAX);
        let (sessions, store) = Sessions::new(config.idle.duration(), most, total);
        let sticky = Self {
            by: config.by.clone(),
            path: path.clone(),
            store,
        };
        (sessions, sticky)
    }

    /// Looks up the session that a request names.
    pub async fn claim(&self, headers: &HeaderMap) -> Claim {
        let name = match &self.by {
            StickyBy::Cookie(name) => cookie(headers, name),
            StickyBy::Header(name) => field(headers, name),
        };
        let known = match &name {
            Some(name) => self.store.find(name).await,
            None => None,
        };
        Claim { name, known }
    }

    /// Records that `member` answered the client. Forgets the client when the response shows that
    /// its session is over.
    pub async fn answered(
        &self,
        claim: Claim,
        member: &Arc<Member>,
        method: &Method,
        (status, headers): (StatusCode, &mut HeaderMap),
    ) {
        if let Some(known) = &claim.known {
            known.move_to(member);
        }
        match &self.by {
            StickyBy::Cookie(name) if claim.known.is_none() => {
                self.begin(name, member, headers).await;
            }
            StickyBy::Cookie(_) => {}
            StickyBy::Header(name) => {
                let given = field(headers, name);
                let is_over = status == StatusCode::NOT_FOUND
                    || (method == Method::DELETE && status.is_success());
                match (claim.name, given) {
                    (Some(name), _) if is_over => {
                        self.store.remove(&name).await;
                    }
                    (name, Some(given)) if name.as_ref() != Some(&given) => {
                        self.keep(given, member).await;
                    }
                    (Some(name), _) if claim.known.is_none() && !status.is_client_error() => {
                        self.keep(name, member).await;
                    }
                    _ => {}
                }
            }
        }
    }

    /// Returns the number of remembered clients.
    #[must_use]
    pub fn active(&self) -> u64 {
        self.store.used().active
    }

    async fn keep(&self, name: String, member: &Arc<Member>) {
        let session = Affinity::new(member, self.store.count_session());
        self.store.insert(name, session).await;
    }

    async fn begin(&self, cookie: &str, member: &Arc<Member>, headers: &mut HeaderMap) {
        let session = Affinity::new(member, self.store.count_session());
        // `None` means that the proxy is shutting down. The client gets no cookie then.
        let Some(name) = self.store.create(session).await else {
            return;
        };
        let path = self.path.as_str();
        let text = format!("{cookie}={name}; Path={path}; HttpOnly; SameSite=Lax");
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.append(SET_COOKIE, value);
        }
    }
}

impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Sticky").field(&self.by).finish()
    }
}

fn field(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    valid_name(headers.get(name)?.to_str().ok()?)
}

/// Returns the value of the cookie `name` (RFC 6265 §4.2.1), if it is not empty and not too long.
fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values = headers.get_all(COOKIE).into_iter();
    let mut pairs = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'));
    pairs.find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found.trim() == name).then(|| valid_name(value.trim()))?
    })
}

fn valid_name(name: &str) -> Option<String> {
    (!name.is_empty() && name.len() <= LONGEST_NAME).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_in_one_field_or_several() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; key=; xid=9"));
        headers.append(COOKIE, HeaderValue::from_static("b=2;id=7=7"));
        assert_eq!(cookie(&headers, "a").unwrap(), "1");
        assert_eq!(cookie(&headers, "id").unwrap(), "7=7");
        assert_eq!(cookie(&headers, "key"), None, "empty");
        assert_eq!(cookie(&headers, "d"), None);
        let long = HeaderValue::try_from(format!("id={}", "x".repeat(257)));
        headers.insert(COOKIE, long.unwrap());
        assert_eq!(cookie(&headers, "id"), None, "too long");
    }
}
