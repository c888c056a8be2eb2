"""How fast the bank is, beside the bare servers under it (docs/performance.md).

python -m benchmarks [a b …] [--quick] [--real] [--show]

write_path.py (a)  forwarding.py (b)  projecting.py (c)  rebuilding.py (d)
latency.py (e)     growth.py (f)      scaling.py (g)     one measure each
rounds.py figures.py                                     turns, medians, percentiles, ratios
bank.py children.py worker.py rivals.py                  servers and processes of a run
history.py stream.py load.py machine.py size.py          what goes in, and what it runs on
report.py chart.py                                       JSON, tables, a chart
"""
