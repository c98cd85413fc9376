/**
 * Quantifiers allowed in an expression that is matched here: with two, a name of n characters takes at most about n²
 * steps.
 */
const MOST_QUANTIFIERS = 2;
/** Longer expressions are lists of names, which agents match as well. */
const MOST_CHARACTERS = 10_000;

/**
 * Whether JavaScript's regular expressions, which search by backtracking, match this one quickly whatever the text is:
 * viewers' browsers run what others have written into dashboards. It may have no back reference, no look-around, no
 * quantifier after a group, and few at all. What this refuses is matched by RE2 in the backend, in linear time.
 */
export function isQuick(expression: string): boolean {
  if (expression.length > MOST_CHARACTERS) {
    return false;
  }
  let quantifiers = 0;
  let afterGroup = false;
  for (let i = 0; i < expression.length; i++) {
    const c = expression.charAt(i);
    const wasGroup = afterGroup;
    afterGroup = false;
    switch (c) {
      case '\\':
        i++;
        if (/[1-9k]/.test(expression.charAt(i))) {
          return false;
        }
        break;
      case '[':
        i = endOfClass(expression, i);
        break;
      case '(':
        if (expression.charAt(i + 1) === '?') {
          if (expression.charAt(i + 2) !== ':') {
            return false;
          }
          i += 2;
        }
        break;
      case ')':
        afterGroup = true;
        break;
      case '*':
      case '+':
      case '?':
      case '{':
        if (wasGroup || ++quantifiers > MOST_QUANTIFIERS) {
          return false;
        }
        if (c === '{') {
          const end = expression.indexOf('}', i);
          i = end < 0 ? expression.length : end;
        }
        if (expression.charAt(i + 1) === '?') {
          i++; // lazy
        }
        break;
    }
  }
  return true;
}

/** The place of the bracket that ends a class of characters. */
function endOfClass(expression: string, from: number): number {
  for (let i = from + 1; i < expression.length; i++) {
    if (expression.charAt(i) === '\\') {
      i++;
    } else if (expression.charAt(i) === ']') {
      return i;
    }
  }
  return expression.length;
}
