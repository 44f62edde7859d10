/** A review that cannot be made, in one sentence with its way out. */
export class ReviewError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ReviewError";
  }
}
