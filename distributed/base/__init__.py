"""The ground floor: names, keys, ids, errors, settings. Imports nothing else of the house."""
