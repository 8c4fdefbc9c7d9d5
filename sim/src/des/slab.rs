//! A slab: things by number, numbers used again.

/// What a place holds that nothing was put in yet.
pub(crate) trait Empty {
    const EMPTY: Self;
}

/// Things of one kind in one vector; freed places are used again, last freed first.
#[derive(Clone, Debug)]
pub(crate) struct Slab<T> {
    items: Vec<T>,
    free: Vec<u32>,
}

impl<T: Copy + Empty> Slab<T> {
    pub(crate) fn new() -> Self {
        Slab { items: Vec::new(), free: Vec::new() }
    }

    #[inline]
    pub(crate) fn insert(&mut self, item: T) -> u32 {
        let slot = self.reserve();
        self.items[slot as usize] = item;
        slot
    }

    /// A place whose old contents are to be overwritten: a thing that is made in its place needs no copy.
    #[inline]
    pub(crate) fn reserve(&mut self) -> u32 {
        match self.free.pop() {
            Some(slot) => slot,
            None => self.grow(),
        }
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self) -> u32 {
        self.items.push(T::EMPTY);
        self.items.len() as u32 - 1
    }

    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// How many things there are.
    pub(crate) fn live(&self) -> u32 {
        (self.items.len() - self.free.len()) as u32
    }

    /// Numbers ever in use: every thing's number is below.
    pub(crate) fn slots(&self) -> u32 {
        self.items.len() as u32
    }
}

impl<T> std::ops::Index<u32> for Slab<T> {
    type Output = T;
    #[inline]
    fn index(&self, slot: u32) -> &T {
        &self.items[slot as usize]
    }
}

impl<T> std::ops::IndexMut<u32> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.items[slot as usize]
    }
}
