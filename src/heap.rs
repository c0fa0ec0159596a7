//! Futures on the heap, made where they stay.

use std::pin::Pin;

/// Makes a future on the heap. `Box::pin(future)` would make it on the stack, where it must lie for the case that the heap
/// has no room, and then copy all the room that it will ever need: kilobytes of which nothing is written yet.
pub fn pinned<F: Future>(make: impl FnOnce() -> F) -> Pin<Box<F>> {
    let room = Box::new_uninit();
    Box::into_pin(Box::write(room, make()))
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn it_is_the_future_that_was_made() {
        let text = "gone in".to_owned();
        assert_eq!(super::pinned(move || async move { text.len() }).await, 7);
    }
}
