export { RuntimeModeSelector } from './mode-selector'
export { createSetupSession } from './session'
export { RuntimeSetupProgress } from './setup-progress'
export { en, setStrings, zhHant } from './strings'
