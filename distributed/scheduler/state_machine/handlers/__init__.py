"""``on_<fact>`` functions: one for each event, grouped by who sends it. Pure."""
