# Deploy and capture the agent ID from structured output
AGENT_ID=$(aegis agent deploy ./agent.yaml --output json | jq -r '.id')

# Start an execution and capture the execution ID
EXEC_ID=$(aegis task execute "$AGENT_ID" \
  --input '{"task": "..."}' \
  --output json | jq -r '.execution_id')

# Poll until complete
while true; do
  STATUS=$(aegis task status "$EXEC_ID" --output json | jq -r '.status')
  echo "Status: $STATUS"
  if [[ "$STATUS" == "completed" || "$STATUS" == "failed" || "$STATUS" == "cancelled" ]]; then
    break
  fi
  sleep 5
done

echo "Final status: $STATUS"
