import { useState } from 'react';

/** What the user is typing over a stored value; forgotten as soon as another value is stored. */
export function useDraft(stored: string): [text: string, setText: (text: string) => void] {
  const [draft, setDraft] = useState({ over: stored, text: stored });
  return [draft.over === stored ? draft.text : stored, (text) => setDraft({ over: stored, text })];
}
