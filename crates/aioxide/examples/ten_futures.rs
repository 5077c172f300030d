//! Ten futures, each completed by a callback, each with a callback of its own for when it is done.
//!
//! ```text
//! cargo run --example ten_futures
//! ```

use std::error::Error;

use aioxide::FutureError;

async fn ten_futures() -> Result<u32, Box<dyn Error>> {
    let event_loop = aioxide::running()?;
    let mut futures = Vec::new();
    for number in 0..10 {
        let future = event_loop.create_future::<u32>();
        future.add_done_callback(move |future| println!("done: {number}: {future:?}"));
        let completed = future.clone();
        event_loop.call_soon(move || {
            println!("set_result({number})");
            // Fails only for a future that is done.
            let _ = completed.set_result(number);
        });
        futures.push(future);
    }
    let mut sum = 0;
    for future in futures {
        let result: Result<u32, FutureError> = future.await;
        sum += result?;
    }
    Ok(sum)
}

fn main() -> Result<(), Box<dyn Error>> {
    let sum = aioxide::run(ten_futures())??;
    println!("sum: {sum}");
    Ok(())
}
