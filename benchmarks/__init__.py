"""How fast the bank is, beside the bare servers under it (docs/performance.md).

python -m benchmarks [a b …] [--quick] [--real] [--beside FOLDER] [--show]

write_path.py (a), forwarding.py (b), projecting.py bulks.py (c), rebuilding.py
live_rebuild.py (d), latency.py (e), growth.py (f), scaling.py (g),
whole.py (h), read_side.py (i), ordinary.py (j), over_http.py (k), idle.py (l),
listing.py (m)                          one measure each
rounds.py turns.py apart.py figures.py  turns, medians, percentiles, ratios
bank.py roles.py children.py checkout.py worker.py rivals.py bare_http.py
                                        servers and processes of a run
history.py stream.py load.py            what goes in
machine.py size.py                      what it runs on, and how much of it
report.py chart.py                      JSON, tables, a chart
"""
