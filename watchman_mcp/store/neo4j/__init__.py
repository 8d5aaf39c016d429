"""The graph of many machines, in Neo4j: imported only where `[neo4j] uri` is set."""
