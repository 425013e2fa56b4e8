"""Judges access tokens, one a line: `python judge.py entra_mcp.validator.wasm settings.json < tokens.txt`."""
import sys
from pathlib import Path

from wasmtime import Engine, Store, WasiConfig
from wasmtime.component import Component, Linker

component, settings = sys.argv[1], Path(sys.argv[2]).read_text()

engine = Engine()
linker = Linker(engine)
linker.add_wasip2()
linker.add_wasi_http()
store = Store(engine)
store.set_wasi(WasiConfig())
store.set_wasi_http()
instance = linker.instantiate(store, Component.from_file(engine, component))
interface = instance.get_export_index(store, "entra-mcp:plugin/token-verdict@0.2.0")
validate = instance.get_func(store, instance.get_export_index(store, "validate", interface))

for line in sys.stdin:
    verdict = validate(store, line.rstrip("\n"), settings, None)
    if verdict.tag == "ok":
        print("valid", getattr(verdict.payload, "object-id"))
    else:
        print(verdict.payload.code)
