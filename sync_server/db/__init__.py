"""The hospital's database: tables, engines, migrations."""
