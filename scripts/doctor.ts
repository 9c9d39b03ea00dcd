/** `npm run doctor [-- --json]`: see cli/doctor.ts. */
import '../cli/check-node.ts';

import { doctor } from '../cli/doctor.ts';

process.exit(await doctor(process.argv.slice(2)));
