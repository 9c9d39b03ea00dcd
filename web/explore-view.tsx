/** Explore: the networks as they are, and what a run did inside them. */
import { Icon } from './icon.tsx';

export function ExploreView() {
  return (
    <div class="card empty">
      <Icon name="network" />
      <h1>Explore</h1>
    </div>
  );
}
