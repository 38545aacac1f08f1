//! How many more attempts may be taken on. Pure.
//!
//! A look, not a reservation: the claim counts again, under its lock.

/// What is known when a turn begins.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    /// Live attempts over all workers that are allowed.
    pub cap: usize,
    /// Berths that are held, by the rows.
    pub held: i64,
    /// Berths of this worker's that it is about to give back.
    pub gone: usize,
    /// Attempts that are alive in this worker's launcher.
    pub here: usize,
}

impl Look {
    /// Attempts that may be claimed now.
    pub fn room(&self) -> usize {
        let held = usize::try_from(self.held).unwrap_or(0).saturating_sub(self.gone);
        self.cap.saturating_sub(held).min(self.cap.saturating_sub(self.here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_what_the_cap_leaves() {
        let look = |held, gone, here| Look { cap: 16, held, gone, here }.room();
        assert_eq!(look(0, 0, 0), 16);
        assert_eq!(look(10, 0, 10), 6);
        assert_eq!(look(16, 3, 13), 3, "what is about to be given back is room");
        assert_eq!(look(16, 3, 16), 0, "but not while its process lives");
        assert_eq!(look(16, 0, 2), 0, "others hold the rest");
        assert_eq!(look(20, 0, 0), 0, "the cap was lowered");
        assert_eq!(look(2, 5, 0), 16, "somebody else gave them back");
    }
}
