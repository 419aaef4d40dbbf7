"""LiteRT.js and onnxruntime-web in headless Chromium, and their npm packages."""
