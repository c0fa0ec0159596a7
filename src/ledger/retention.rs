//! Rows that are old become sums of their days, which are kept for good.

use rusqlite::{Connection, params};

/// So much is rolled up in one transaction, so that nobody waits long for it.
const HOUR_MS: i64 = 3_600_000;

const ROLL_UP: &str = "INSERT INTO day (day, endpoint, key, user, team, tags, model, provider, target, requests,
        attempts, failed, unpriced, cost, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images)
    SELECT opened_ms / 86400000 AS day, endpoint, coalesce(key, ''), coalesce(user, ''), coalesce(team, ''), tags,
        model, provider, target, sum(n = 1), count(*), sum(outcome <> 'ok'), sum(cost IS NULL),
        coalesce(sum(cost), 0), sum(input), sum(cached_read), sum(cache_write), sum(output), sum(reasoning),
        sum(audio_ms), sum(characters), sum(images)
    FROM attempt WHERE opened_ms >= ?1 AND opened_ms < ?2 AND state <> 'open'
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9
    ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, attempts = attempts + excluded.attempts,
        failed = failed + excluded.failed, unpriced = unpriced + excluded.unpriced, cost = cost + excluded.cost,
        input = input + excluded.input, cached_read = cached_read + excluded.cached_read,
        cache_write = cache_write + excluded.cache_write, output = output + excluded.output,
        reasoning = reasoning + excluded.reasoning, audio_ms = audio_ms + excluded.audio_ms,
        characters = characters + excluded.characters, images = images + excluded.images";

/// Rolls up the oldest hour whose rows began before `before_ms`. Says how many rows went; nothing when none are left.
pub(super) fn roll_up(db: &Connection, before_ms: i64) -> rusqlite::Result<Option<usize>> {
    let oldest: Option<i64> = db.query_row(
        "SELECT min(opened_ms) FROM attempt WHERE opened_ms < ?1 AND state <> 'open'",
        [before_ms],
        |row| row.get(0),
    )?;
    let Some(oldest) = oldest else { return Ok(None) };
    let since = oldest / HOUR_MS * HOUR_MS;
    let until = (since + HOUR_MS).min(before_ms);
    db.execute(ROLL_UP, params![since, until])?;
    let gone = db.execute(
        "DELETE FROM attempt WHERE opened_ms >= ?1 AND opened_ms < ?2 AND state <> 'open'",
        params![since, until],
    )?;
    Ok(Some(gone))
}
