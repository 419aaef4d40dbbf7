"""Files to graphs: TFLite, ONNX and our own saved graphs. Every file is taken for hostile.

A reader looks at bytes with bounds-checked Python alone; no native loader sees a file before it.
"""
