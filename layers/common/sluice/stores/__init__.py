"""Level 2: DynamoDB, one file per thing kept. Synchronous; callers run them in threads. Returns level-0 types."""
