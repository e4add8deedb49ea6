// Reads a JSON list of simulations from standard input; writes the list of their results.
import { runSimulation } from '@cloud-copilot/iam-simulate'
import { text } from 'node:stream/consumers'

const results = []
for (const simulation of JSON.parse(await text(process.stdin))) {
  const response = await runSimulation(simulation, {})
  results.push(response.resultType === 'error' ? response : response.overallResult)
}
process.stdout.write(JSON.stringify(results))
