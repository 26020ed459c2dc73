//! Passing a request without a body through to the origin: a pipe over the connections that
//! fills use, with back-pressure, that ends when either end does.

use std::sync::Arc;

use parking_lot::Mutex;
use pingora::http::{RequestHeader, ResponseHeader};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::client::{Client, Follows, Head};
use super::heads::{
    Conditions, Passed, end_to_end, passed, passing_shape, request as request_head,
};
use super::record::Record;
use crate::origin::{Exchange, FetchError, Liveness, Pass, ProbeSite, RequestBody};
use crate::request::Request;
use crate::route::Route;
use crate::rules::cache_status::{Bypass, Failure};
use crate::rules::{Outcome, date, hop};

/// Passes it through.
pub(crate) async fn serve<C: Client>(
    client: &mut C,
    record: &mut Record,
    request: &Request<'_>,
    route: Arc<Route>,
    why: Bypass,
) -> Result<(), C::Gone> {
    record.outcome = Outcome::Bypass { why };
    record.route = Some(Arc::clone(&route));
    match ask(client, record, request, &route).await? {
        Ok((exchange, asked)) => answer(client, record, exchange, asked, &route, why).await,
        Err(why) => {
            record.outcome = Outcome::Failed { why };
            client.failure(why).await
        }
    }
}

/// Asks the origin. The inner error is answered with its page.
async fn ask<C: Client>(
    client: &mut C,
    record: &Record,
    request: &Request<'_>,
    route: &Route,
) -> Result<Result<(Exchange, Conditions), Failure>, C::Gone> {
    let live = &record.live;
    let origin = live.origin(route);
    let entered = tokio::select! {
        biased;
        entered = origin.enter(Pass::Request) => entered,
        gone = client.left() => return Err(gone),
    };
    // How long the rest takes, once there is a head, is for the client to say.
    let _place = match entered {
        Ok(place) => place,
        Err(why) => return Ok(Err(why)),
    };
    let site = ProbeSite { host: request.host, scheme: request.scheme, via: &live.via };
    let attempt = match origin.admit(request.path(), &site) {
        Ok(attempt) => attempt,
        Err(why) => return Ok(Err(why)),
    };
    let Ok(head) = upstream_head(record, request, route) else {
        return Ok(Err(Failure::BadRequest));
    };
    let asked = Conditions::by(&head);
    let interims = Interims::default();
    let mut collect = |head| interims.add(head);
    let deadline = Instant::now() + origin.config().idle_timeout;
    let mut fetch = std::pin::pin!(origin.fetch_with(Box::new(head), deadline, &mut collect));
    let fetched = loop {
        tokio::select! {
            biased;
            fetched = &mut fetch => break fetched,
            () = interims.came.notified() => interims.relay(client).await?,
            gone = client.left() => return Err(gone),
        }
    };
    let (verdict, fetched) = match fetched {
        Ok(exchange) => {
            (Liveness::of_status(exchange.head.status, RequestBody::None), Ok((exchange, asked)))
        }
        Err(FetchError { failure, stage, server, detail }) => {
            let origin = &origin.config().name;
            tracing::debug!(%origin, ?server, %detail, "passing through failed");
            (Liveness::of_failure(failure, stage, RequestBody::None), Err(failure))
        }
    };
    // First: it says something of the origin, whether the client is still there or not.
    origin.record(attempt, verdict, &site);
    interims.relay(client).await?;
    Ok(fetched)
}

/// Writes the response.
async fn answer<C: Client>(
    client: &mut C,
    record: &mut Record,
    mut exchange: Exchange,
    asked: Conditions,
    route: &Route,
    why: Bypass,
) -> Result<(), C::Gone> {
    let live = Arc::clone(&record.live);
    let deployments = live.deployments(route);
    if let Some(deployment) = deployments.learn_from(&exchange.head.headers, None) {
        deployments.seen(&deployment);
    }
    let received = date::format(exchange.response_time);
    let shape = passing_shape(&live, route, why, exchange.head.status, &received);
    let Passed { fields, length } = match passed(&exchange.head, asked, &shape) {
        Ok(passed) => passed,
        Err(why) => {
            let origin = &live.origin(route).config().name;
            tracing::warn!(%origin, why, "the origin's response cannot be passed on");
            record.outcome = Outcome::Failed { why: Failure::Reset };
            return client.failure(Failure::Reset).await;
        }
    };
    let outcome = Outcome::Bypass { why };
    let head = Head {
        status: exchange.head.status,
        date: fields.get("date"),
        fields: &fields,
        length,
        outcome,
        cache_field: live.preset.cache_field(),
    };
    record.answers(outcome);
    exchange.set_deadline(None);
    exchange.set_idle(live.origin(route).config().idle_timeout);
    let follows = client.begin(&head).await?;
    loop {
        let next = tokio::select! {
            biased;
            next = exchange.chunk() => next,
            gone = client.left() => return Err(gone),
        };
        match next {
            Ok(Some(piece)) if follows == Follows::Body => client.piece(piece).await?,
            // Of a response that has no body.
            Ok(Some(_)) => return Ok(()),
            Ok(None) => break,
            Err(_) if follows == Follows::Nothing => return Ok(()),
            Err(_) => return Err(client.break_off("the origin broke off").await),
        }
    }
    // First, so that whoever asks again at once finds the connection free.
    exchange.finish().await;
    if follows == Follows::Body { client.end().await } else { Ok(()) }
}

/// The request that goes to the origin.
fn upstream_head(
    record: &Record,
    request: &Request<'_>,
    route: &Route,
) -> pingora::Result<RequestHeader> {
    let fields = request.fields.iter().filter(|field| !hop::is_hop_by_hop(field.name));
    let target = request.target.as_bytes();
    let mut head = RequestHeader::build(request.method, target, Some(request.fields.len() + 6))?;
    for field in fields {
        head.append_header(field.name.to_owned(), field.value)?;
    }
    request_head(&mut head, request, &record.live, route)?;
    Ok(head)
}

/// Informational responses that came and are still to be relayed. The fetch bounds how many
/// there are.
#[derive(Default)]
struct Interims {
    heads: Mutex<Vec<ResponseHeader>>,
    came: Notify,
}

impl Interims {
    fn add(&self, head: ResponseHeader) {
        self.heads.lock().push(head);
        self.came.notify_one();
    }

    async fn relay<C: Client>(&self, client: &mut C) -> Result<(), C::Gone> {
        let heads = std::mem::take(&mut *self.heads.lock());
        for head in heads {
            client.interim(head.status.as_u16(), &end_to_end(&head)).await?;
        }
        Ok(())
    }
}
