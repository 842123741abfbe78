import { useStatus } from '../lib/status-source.js';
import { useOnline } from '../offline/index.js';
import { StatusMark } from './StatusMark.jsx';

/** How the service is doing, as seen from here. */
export function Status() {
  const online = useOnline();
  const asked = useStatus();
  return <StatusMark status={online ? (asked === 'offline' ? 'unknown' : asked) : 'offline'} />;
}
