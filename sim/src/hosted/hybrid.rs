//! TEMP
use std::rc::Rc;

use super::wire::{Answer, Context};
use super::world::World;
use crate::des::Left;

/// A request at a service of somebody's own, in the books: it is there from its sending to its answer, for nobody sees further in.
pub(super) struct Replaced {
    world: Rc<World>,
    node: u32,
    arrived: u64,
    presence: u64,
    over: bool,
}

impl Replaced {
    pub(super) fn begin(world: &Rc<World>, node: u32, _context: &Context) -> Option<Replaced> {
        let s = world.service_of(node)?;
        world.replaced[s as usize].then(|| {
            let arrived = world.now();
            world.record(|recorder, now| recorder.arrived(node, now));
            Replaced { world: Rc::clone(world), node, arrived, presence: world.comes(node, arrived), over: false }
        })
    }

    /// It was answered; `None`: its connection broke.
    pub(super) fn end(mut self, answer: Option<Answer>) {
        self.leave(match answer {
            Some(Ok(_)) => Left::Answered,
            Some(Err(models::system::Cause::Overload)) => Left::Refused,
            Some(Err(_)) => Left::Failed,
            None => Left::Killed,
        });
    }

    fn leave(&mut self, how: Left) {
        if !std::mem::replace(&mut self.over, true) {
            self.world.goes(self.presence);
            self.world.record(|recorder, now| recorder.left(self.node, now, self.arrived, how, false));
        }
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        self.leave(Left::Cancelled);
    }
}
