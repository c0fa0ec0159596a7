//! Rows that are old become sums of their days, which are kept for good.

use rusqlite::{Connection, params};

/// So much is rolled up in one transaction, so that nobody waits long for it.
const HOUR_MS: i64 = 3_600_000;

/// What the ledger of all gateways has not got yet stays a row until it has, and what stands on a sheet beside an attempt
/// that is still under way stays one until that has ended. What was held for something that nobody could price stays one
/// for good: budgets are charged it, and sums do not tell it.
const OLD: &str = "opened_ms < ?2 AND state <> 'open' AND id NOT IN (SELECT id FROM outbox)
    AND (cost IS NOT NULL OR reserved = 0 OR state NOT IN ('settled', 'estimated'))
    AND id NOT IN (SELECT value ->> 0 FROM intent, json_each(intent.attempts))";

/// The sums of rows, and how they are added to those that are there; the same for both databases.
pub(super) const SUMS: &str = r#"endpoint, coalesce(key, ''), coalesce("user", ''), coalesce(team, ''), tags,
    model, provider, target, coalesce(app, ''), coalesce(tier, ''), sum(CASE WHEN n = 1 THEN 1 ELSE 0 END), sum(CASE WHEN state = 'cached' THEN 1 ELSE 0 END),
    sum(CASE WHEN state = 'cached' THEN 0 ELSE 1 END), sum(CASE WHEN outcome NOT IN ('ok', 'unread') THEN 1 ELSE 0 END),
    sum(CASE WHEN cost IS NULL THEN 1 ELSE 0 END), coalesce(sum(cost), 0), sum(saved), sum(input), sum(cached_read),
    sum(cache_write), sum(output), sum(reasoning), sum(audio_ms), sum(characters), sum(images), sum(cached_audio),
    sum(cached_image), sum(cache_write_long), sum(input_audio), sum(input_image), sum(output_audio), sum(output_image),
    sum(searches), sum(billed_input), sum(billed_output)"#;
pub(super) const SUMMED: &str = r#"endpoint, key, "user", team, tags, model, provider, target, app, tier, requests, hits, attempts,
    failed, unpriced, cost, saved, input, cached_read, cache_write, output, reasoning, audio_ms, characters, images,
    cached_audio, cached_image, cache_write_long, input_audio, input_image, output_audio, output_image, searches,
    billed_input, billed_output"#;
pub(super) const ADD: &str = "requests = day.requests + excluded.requests, hits = day.hits + excluded.hits,
    attempts = day.attempts + excluded.attempts, failed = day.failed + excluded.failed,
    unpriced = day.unpriced + excluded.unpriced, cost = day.cost + excluded.cost, saved = day.saved + excluded.saved,
    input = day.input + excluded.input, cached_read = day.cached_read + excluded.cached_read,
    cache_write = day.cache_write + excluded.cache_write, output = day.output + excluded.output,
    reasoning = day.reasoning + excluded.reasoning, audio_ms = day.audio_ms + excluded.audio_ms,
    characters = day.characters + excluded.characters, images = day.images + excluded.images,
    cached_audio = day.cached_audio + excluded.cached_audio, cached_image = day.cached_image + excluded.cached_image,
    cache_write_long = day.cache_write_long + excluded.cache_write_long,
    input_audio = day.input_audio + excluded.input_audio, input_image = day.input_image + excluded.input_image,
    output_audio = day.output_audio + excluded.output_audio, output_image = day.output_image + excluded.output_image,
    searches = day.searches + excluded.searches, billed_input = day.billed_input + excluded.billed_input,
    billed_output = day.billed_output + excluded.billed_output";

/// Rolls up the oldest hour whose rows began before `before_ms`. Says how many rows went; nothing when none are left.
pub(super) fn roll_up(db: &Connection, before_ms: i64) -> rusqlite::Result<Option<usize>> {
    let oldest = format!("SELECT min(opened_ms) FROM attempt WHERE opened_ms >= ?1 AND {OLD}");
    let oldest: Option<i64> = db.query_row(&oldest, params![0, before_ms], |row| row.get(0))?;
    let Some(oldest) = oldest else { return Ok(None) };
    let since = oldest / HOUR_MS * HOUR_MS;
    let until = (since + HOUR_MS).min(before_ms);
    let add = format!(
        "INSERT INTO day (day, {SUMMED}) SELECT opened_ms / 86400000, {SUMS} FROM attempt
         WHERE opened_ms >= ?1 AND {OLD} GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 ON CONFLICT DO UPDATE SET {ADD}"
    );
    db.execute(&add, params![since, until])?;
    let gone =
        db.execute(&format!("DELETE FROM attempt WHERE opened_ms >= ?1 AND {OLD}"), params![since, until])?;
    Ok(Some(gone))
}
