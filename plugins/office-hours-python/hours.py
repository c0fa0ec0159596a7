"""When people are at work: plain Python, tested without WebAssembly."""

from datetime import date, datetime, timedelta, timezone

KNOWN = {"opens", "closes", "days", "holidays", "utc_offset_minutes"}


class Hours:
    """Opening hours of an office, from the plugin's `config:` block."""

    def __init__(self, config):
        unknown = sorted(set(config) - KNOWN)
        if unknown:
            raise ValueError(f"config: unknown field {', '.join(unknown)}: expected {', '.join(sorted(KNOWN))}")
        self.opens = minutes(config.get("opens", "09:00"))
        self.closes = minutes(config.get("closes", "17:30"))
        self.days = set(config.get("days", [1, 2, 3, 4, 5]))
        self.holidays = {date.fromisoformat(day) for day in config.get("holidays", [])}
        self.offset = int(config.get("utc_offset_minutes", 0))
        if self.closes <= self.opens:
            raise ValueError("config: closes must be after opens")

    def local(self, unix_ms):
        zone = timezone(timedelta(minutes=self.offset))
        return datetime.fromtimestamp(unix_ms / 1000, tz=timezone.utc).astimezone(zone)

    def open_at(self, unix_ms):
        now = self.local(unix_ms)
        at_work = now.isoweekday() in self.days and now.date() not in self.holidays
        return at_work and self.opens <= now.hour * 60 + now.minute < self.closes

    def opens_in_minutes(self, unix_ms):
        """0 while it is open; nothing where it does not open within 30 days."""
        if self.open_at(unix_ms):
            return 0
        now = self.local(unix_ms)
        for days in range(31):
            day = now.date() + timedelta(days=days)
            if day.isoweekday() not in self.days or day in self.holidays:
                continue
            midnight = datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)
            wait = midnight + timedelta(minutes=self.opens) - now
            if wait > timedelta(0):
                return -int(-wait.total_seconds() // 60)
        return None


def minutes(text):
    """Minutes since midnight of a time such as "09:30"."""
    hour, minute = (int(part) for part in text.split(":"))
    if not (0 <= hour <= 24 and 0 <= minute < 60):
        raise ValueError(f"config: {text!r} is not a time of day")
    return hour * 60 + minute
