//! A replica's workers, and those who wait for one.
//!
//! You are here: `sim::hosted::gate`. `visit` waits here; tokio's own semaphore knows neither last-come-first-served, nor a bound on those who
//! wait, nor shedding.
//! Always true: `busy` counts the workers that are held; whoever has been given one and goes away before it knew gives it on.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// What has become of one who waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Waits,
    /// It has a worker.
    Has,
    /// It is turned away.
    Shed,
}

/// One who waits.
#[derive(Debug)]
pub(super) struct Place {
    turn: Cell<Turn>,
    waker: RefCell<Option<Waker>>,
    pub(super) since: u64,
    pub(super) deadline: u64,
    /// It has worked before, and is not refused any more.
    pub(super) works: u32,
    /// Its caller has gone.
    pub(super) left: Rc<Cell<bool>>,
}

/// The workers of one replica.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) busy: Cell<u32>,
    pub(super) limit: Cell<u32>,
    pub(super) bound: Cell<u32>,
    waiting: RefCell<VecDeque<Rc<Place>>>,
}

impl Gate {
    pub(super) fn new(limit: u32, bound: u32) -> Self {
        Gate { busy: Cell::new(0), limit: Cell::new(limit), bound: Cell::new(bound), waiting: RefCell::default() }
    }

    pub(super) fn queued(&self) -> u32 {
        self.waiting.borrow().len() as u32
    }

    /// Takes a worker that is free now, if nobody waits.
    pub(super) fn take_free(&self) -> bool {
        let free = self.busy.get() < self.limit.get() && self.waiting.borrow().is_empty();
        if free {
            self.busy.set(self.busy.get() + 1);
        }
        free
    }

    /// Joins the line.
    pub(super) fn join(&self, since: u64, deadline: u64, works: u32, left: Rc<Cell<bool>>) -> Rc<Place> {
        let place = Rc::new(Place { turn: Cell::new(Turn::Waits), waker: RefCell::default(), since, deadline, works, left });
        self.waiting.borrow_mut().push_back(Rc::clone(&place));
        place
    }

    /// Who is next in line while there is a free worker: the first, or the last.
    pub(super) fn next(&self, lifo: bool) -> Option<Rc<Place>> {
        if self.busy.get() >= self.limit.get() {
            return None;
        }
        let mut waiting = self.waiting.borrow_mut();
        if lifo { waiting.pop_back() } else { waiting.pop_front() }
    }

    /// Tells one who was next: it has a worker, or is shed.
    pub(super) fn tell(&self, place: &Place, turn: Turn) {
        if turn == Turn::Has {
            self.busy.set(self.busy.get() + 1);
        }
        place.turn.set(turn);
        if let Some(waker) = place.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// One who waited has gone.
    pub(super) fn leave_line(&self, place: &Rc<Place>) {
        self.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, place));
    }

    /// All who wait are forgotten.
    pub(super) fn clear(&self) {
        self.waiting.borrow_mut().clear();
    }
}

/// Waits for one's turn.
pub(super) struct Wait<'a>(pub(super) &'a Place);

impl Future for Wait<'_> {
    type Output = Turn;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Turn> {
        match self.0.turn.get() {
            Turn::Waits => {
                *self.0.waker.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
            turn => Poll::Ready(turn),
        }
    }
}

impl Place {
    pub(super) fn turn(&self) -> Turn {
        self.turn.get()
    }
}
