"""The operator: what a MarketFeed is (spec), what it needs (plan), and the shells that make it so."""
