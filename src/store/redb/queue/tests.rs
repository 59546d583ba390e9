use super::*;
use crate::expiry::Timestamp;

/// A job that is told from others by its number.
fn job(number: usize) -> (Job, Waiter<Swept>) {
    let (reply, waiter) = reply();
    let sweep = Sweep { at: Timestamp::from_millis(0), limit: number, purge: false };
    (Job::Sweep(sweep, reply), waiter)
}

fn numbers(jobs: &[Job]) -> Vec<usize> {
    let number = |job: &Job| match job {
        Job::Sweep(sweep, _) => sweep.limit,
        _ => unreachable!("there are no others"),
    };
    jobs.iter().map(number).collect()
}

#[test]
fn rule_15_sweeping_has_its_turn_however_much_is_queued() {
    let queue = Queue::new(8);
    let (first, _waiter) = job(1);
    queue.push(first);
    let now = Instant::now();
    assert_eq!(queue.wait(Some(now)), Call::Work);
    assert_eq!(queue.wait(Some(now.checked_sub(PATIENCE).unwrap())), Call::Time);
}

#[test]
fn what_is_put_back_is_carried_out_first_and_in_its_order() {
    let queue = Queue::new(8);
    let (jobs, mut waiters): (Vec<_>, Vec<_>) = (1..=4).map(job).unzip();
    for job in jobs {
        queue.push(job);
    }
    let mut taken = queue.take(3);
    let begun = taken.remove(0);
    queue.put_back(taken.into_iter());
    // Whoever gives up now takes the job back, as before it was claimed.
    drop(waiters.remove(1));
    assert_eq!(numbers(&queue.take(8)), [3, 4]);
    drop(begun);
}

#[test]
fn touches_are_written_so_many_at_a_time_in_order_of_id() {
    let queue = Queue::new(8);
    let access = Access::at(Timestamp::from_millis(1));
    let ids: Vec<_> =
        (0..TOUCHES_AT_ONCE + 100).map(|_| crate::SessionToken::generate().unwrap().id()).collect();
    for id in &ids {
        queue.touch(id, &access);
    }
    assert!(queue.take_touches().is_empty(), "they wait for company");
    queue.close(None);
    let (many, few) = (queue.take_touches(), queue.take_touches());
    assert_eq!((many.len(), few.len()), (TOUCHES_AT_ONCE, 100));
    let mut all: Vec<_> = many.iter().chain(&few).map(|(id, _)| *id).collect();
    assert!(all.is_sorted());
    let mut expected = ids;
    expected.sort_unstable();
    all.dedup();
    assert_eq!(all, expected);
    assert!(queue.take_touches().is_empty());
}
