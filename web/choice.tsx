/** One of a few: radio buttons that look like pills. */
export function Choice<Value extends string>(props: {
  name: string;
  label: string;
  options: Record<Value, string>;
  value: Value;
  /** Why one of them cannot be chosen. */
  impossible?: Partial<Record<NoInfer<Value>, string>>;
  onChange(value: Value): void;
}) {
  return (
    <fieldset class="presets inline">
      <legend>{props.label}</legend>
      {(Object.keys(props.options) as Value[]).map((value) => (
        <label key={value} title={props.impossible?.[value]}>
          <input
            type="radio"
            name={props.name}
            checked={props.value === value}
            disabled={props.impossible?.[value] !== undefined && props.value !== value}
            onChange={() => props.onChange(value)}
          />
          <span>{props.options[value]}</span>
        </label>
      ))}
    </fieldset>
  );
}
