"""Opening hours, at times that are written down: nothing here asks a clock."""

import unittest
from datetime import datetime, timezone

from hours import Hours


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1000)


class Opening(unittest.TestCase):
    def test_open_on_weekdays_within_the_hours(self):
        hours = Hours({"holidays": ["2026-12-25"]})
        cases = {
            "2026-05-04T09:00": True,  # a Monday
            "2026-05-04T17:29": True,
            "2026-05-04T17:30": False,
            "2026-05-04T08:59": False,
            "2026-05-03T12:00": False,  # a Sunday
            "2026-12-25T12:00": False,
        }
        for moment, expected in cases.items():
            self.assertEqual(hours.open_at(at(moment)), expected, moment)

    def test_the_offset_moves_the_day(self):
        hours = Hours({"utc_offset_minutes": 120})
        self.assertTrue(hours.open_at(at("2026-05-04T07:00")))
        self.assertFalse(hours.open_at(at("2026-05-04T16:00")))

    def test_the_wait_until_it_opens(self):
        hours = Hours({"holidays": ["2026-05-04"]})
        self.assertEqual(hours.opens_in_minutes(at("2026-05-05T10:00")), 0)
        self.assertEqual(hours.opens_in_minutes(at("2026-05-05T08:30")), 30)
        self.assertEqual(hours.opens_in_minutes(at("2026-05-01T18:00")), 87 * 60)  # from Friday over a holiday
        self.assertIsNone(Hours({"days": []}).opens_in_minutes(at("2026-05-05T08:30")))

    def test_what_cannot_be_is_refused(self):
        for config in ({"opened": "1"}, {"opens": "25:00"}, {"opens": "18:00"}, {"holidays": ["never"]}):
            with self.assertRaises(ValueError):
                Hours(config)


if __name__ == "__main__":
    unittest.main()
