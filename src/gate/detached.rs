//! Creators that may outlive their caller.
#![forbid(unsafe_code)]

use super::blocking::block_on;
use super::drive::{Creator, Kind, Lead, Place};
use super::led::Discard;
use super::runner::Runner;
use crate::sync::Arc;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A creation that may outlive its caller.
pub(crate) type Boxed<V, E> = Pin<Box<dyn Future<Output = Result<V, E>> + Send>>;

/// A creator that can be handed on to a runner.
pub(crate) struct Detached<V, E> {
    /// None: it was handed on.
    make: Option<Boxed<V, E>>,
    runner: Arc<dyn Runner>,
    /// Whether it never waits, but blocks.
    blocks: bool,
}

impl<V, E> Detached<V, E> {
    pub(crate) fn new(make: Boxed<V, E>, runner: &Arc<dyn Runner>, blocks: bool) -> Self {
        Self { make: Some(make), runner: Arc::clone(runner), blocks }
    }

    pub(crate) fn blocks(&self) -> bool {
        self.blocks
    }
}

impl<V, E> Future for Detached<V, E> {
    type Output = Result<V, E>;
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.make.as_mut().expect("a creator that was handed on is not polled here").as_mut().poll(cx)
    }
}

impl<V, E> Discard for Detached<V, E> {
    fn discard(&mut self) {
        self.make = None;
    }
}

impl<G, P, V, E> Creator<G, P, E> for Detached<V, E>
where
    G: Kind<Made = V> + 'static,
    G::Value: Send + Sync,
    G::Claim: Send,
    P: Place<G> + Send + 'static,
    V: Send + 'static,
    E: Send + Sync + 'static,
{
    fn is_gone(&self) -> bool {
        self.make.is_none()
    }

    fn hand_on(&mut self, lead: Lead<G, P>) -> Result<(), Lead<G, P>> {
        let Some(make) = self.make.take() else { return Err(lead) };
        let mut creator =
            Detached { make: Some(make), runner: Arc::clone(&self.runner), blocks: self.blocks };
        if self.blocks {
            // The result goes to the place, and to who waits.
            self.runner.run(Box::new(move || drop(block_on(|_| lead.create(&mut creator)))));
        } else {
            self.runner.run_async(Box::pin(async move { drop(lead.create(&mut creator).await) }));
        }
        Ok(())
    }
}
