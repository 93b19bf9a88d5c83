"""Real servers and scripted fakes for tests, the demo and benchmarks. Product code never imports this package."""
