"""Objects out to other programs: ROIs, GeoJSON, tables of measurements, challenge masks."""
